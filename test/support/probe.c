/* SPDX-License-Identifier: MIT */
/* Exits 77, which test runners take for "skipped", and says why, where no server can start. */
#include <stdio.h>

#include "kino.h"

int main(void)
{
    struct kino_probe_result result = {.size = sizeof(result)};

    if (kino_probe(&result) < 0)
        return 1;
    if (result.error == 0)
        return 0;
    puts(kino_strerror((int)result.error));
    return 77;
}
