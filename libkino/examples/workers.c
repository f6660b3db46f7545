/* SPDX-License-Identifier: MIT */
/* workers PORT WORKERS queue|lanes|inline: threads of one's own take requests and answer them. */
#include <kino.h>

#include <ctype.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE(literal) {literal, sizeof(literal) - 1}
enum { MOST_WORKERS = 256 };

static struct kino_server *server;

static void stop(int signal)
{
    (void)signal;
    kino_server_drain(server, 10000);
}

static void print_line(void *context, int level, const char *line)
{
    (void)context;
    fprintf(stderr, "workers: %s%s\n", level == KINO_LOG_ERROR ? "error: " : "", line);
}

static void *work(void *argument)
{
    static const struct kino_field type = {SLICE("content-type"), SLICE("text/plain"), 0, 0};
    static const struct kino_response response = {.size = sizeof(response),
                                                  .status = 200,
                                                  .fields = &type,
                                                  .field_count = 1,
                                                  .body = SLICE("Hello World")};
    struct kino_request *request = NULL;
    struct kino_worker *worker;

    if (kino_worker_create(argument, NULL, &worker) < 0)
        return NULL;
    while (kino_worker_take(worker, KINO_OFF, &request) == KINO_REQUEST)
        while (kino_worker_respond_take(worker, &response, &request) == KINO_REQUEST)
            ; /* as long as there is another, one call answers this one and takes it */
    kino_worker_destroy(worker);
    return NULL;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"", "queue", "inline", "lanes"}; /* by their numbers */
    struct kino_config config = {sizeof(config), KINO_DISPATCH_LANES, .log = print_line};
    struct kino_listener listener = {.size = sizeof(listener)};
    pthread_t threads[MOST_WORKERS];
    const int port = argc == 4 && isdigit(*argv[1]) ? atoi(argv[1]) : -1;
    const int workers = argc == 4 ? atoi(argv[2]) : 0;

    while (config.dispatch > 0 && strcmp(argc == 4 ? argv[3] : "", names[config.dispatch]) != 0)
        config.dispatch--;
    if (port < 0 || port > 65535 || workers < 1 || workers > MOST_WORKERS || !config.dispatch) {
        fprintf(stderr, "usage: workers PORT WORKERS queue|lanes|inline (WORKERS: 1 .. 256)\n");
        return 1;
    }
    config.loops =
        (uint64_t)(config.dispatch == KINO_DISPATCH_INLINE ? workers : (workers + 3) / 4);
    listener.port = (uint64_t)port;
    if (kino_server_create(&config, &server) < 0 || kino_server_listen(server, &listener) < 0 ||
        kino_server_start(server) < 0)
        return 1;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on 127.0.0.1:%d\n", kino_server_port(server, 0));
    fflush(stdout);
    for (int i = 0; i < workers; i++)
        pthread_create(&threads[i], NULL, work, server);
    for (int i = 0; i < workers; i++)
        pthread_join(threads[i], NULL);
    return kino_server_destroy(server) < 0;
}
