/* SPDX-License-Identifier: MIT */
#include "io/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "support/test.h"

static struct kino_slice slice(const char *text)
{
    return (struct kino_slice){text, strlen(text)};
}

static void assert_round_trip(const char *from, const char *to, int family)
{
    union kn_address address;
    char text[KN_ADDRESS_TEXT];

    cr_assert_eq(kn_address_parse(slice(from), 8080, &address), 0, "%s", from);
    cr_assert_eq(address.any.sa_family, family, "%s", from);
    cr_assert_eq(kn_address_port(&address), 8080);
    cr_assert_eq(kn_address_format(&address, text), strlen(to), "%s", from);
    cr_assert_str_eq(text, to);
}

Test(socket, addresses_are_read_and_written)
{
    static const struct {
        const char *from;
        const char *to;
        int family;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", AF_INET},
        {"0.0.0.0", "0.0.0.0", AF_INET},
        {"255.255.255.255", "255.255.255.255", AF_INET},
        {"10.100.9.99", "10.100.9.99", AF_INET},
        {"::", "::", AF_INET6},
        {"::1", "::1", AF_INET6},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1", AF_INET6},
        {"fe80::1:2:3:4", "fe80::1:2:3:4", AF_INET6},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
         AF_INET6},
        {"::ffff:192.0.2.1", "192.0.2.1", AF_INET6},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_round_trip(cases[i].from, cases[i].to, cases[i].family);
}

Test(socket, every_byte_of_an_ipv4_address_is_written_as_inet_ntop_does)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        union kn_address address = {.in4.sin_family = AF_INET};
        char expected[INET_ADDRSTRLEN];
        char text[KN_ADDRESS_TEXT];

        address.in4.sin_addr.s_addr = htonl(byte << 24 | (255 - byte) << 16 | byte << 8 | 1);
        inet_ntop(AF_INET, &address.in4.sin_addr, expected, sizeof(expected));
        kn_address_format(&address, text);
        cr_assert_str_eq(text, expected);
    }
}

Test(socket, what_is_no_numeric_address_is_refused)
{
    static const char *const texts[] = {
        "",
        "localhost",
        "127.0.0",
        "127.0.0.1.",
        "256.0.0.1",
        " 127.0.0.1",
        "127.0.0.1 ",
        "[::1]",
        "::1%lo",
        ":::",
        "1:2",
        "0x7f.0.0.1",
        "127.0.0.1:80",
        "0000:0000:0000:0000:0000:ffff:255.255.255.2555555555555",
    };
    union kn_address address;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        cr_assert_eq(kn_address_parse(slice(texts[i]), 1, &address), KINO_INVALID, "%s", texts[i]);
}

Test(socket, nothing_hides_behind_a_nul)
{
    static const char text[] = "127.0.0.1\0.example";
    union kn_address address;

    cr_assert_eq(kn_address_parse((struct kino_slice){text, sizeof(text) - 1}, 1, &address),
                 KINO_INVALID);
}

Test(socket, a_slice_needs_no_end)
{
    union kn_address address;
    char text[KN_ADDRESS_TEXT];

    cr_assert_eq(kn_address_parse((struct kino_slice){"127.0.0.123", 9}, 1, &address), 0);
    kn_address_format(&address, text);
    cr_assert_str_eq(text, "127.0.0.1");
}

Test(socket, ports_end_at_65535)
{
    union kn_address address;

    cr_assert_eq(kn_address_parse(slice("::1"), 65535, &address), 0);
    cr_assert_eq(kn_address_port(&address), 65535);
    cr_assert_eq(kn_address_parse(slice("::1"), 65536, &address), KINO_INVALID);
    cr_assert_eq(kn_address_parse(slice("127.0.0.1"), UINT64_MAX, &address), KINO_INVALID);
    kn_address_set_port(&address, 80);
    cr_assert_eq(kn_address_port(&address), 80);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    getsockopt(fd, level, name, &value, &len);
    return value;
}

Test(socket, binds_close_on_exec_with_the_options_that_connections_inherit)
{
    union kn_address address;
    int fd;

    cr_assert_eq(kn_address_parse(slice("127.0.0.1"), 0, &address), 0);
    fd = kn_socket_bind(&address, true);
    cr_assert_geq(fd, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(option(fd, SOL_SOCKET, SO_REUSEPORT), 1);
    cr_assert_neq(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    kn_socket_local(fd, &address);
    cr_assert_gt(kn_address_port(&address), 0);
    close(fd);
}

Test(socket, sees_that_a_port_is_taken)
{
    union kn_address address;
    int holder;
    int shared;

    cr_assert_eq(kn_address_parse(slice("127.0.0.1"), 0, &address), 0);
    holder = kn_socket_bind(&address, true);
    cr_assert_geq(holder, 0);
    cr_assert_eq(listen(holder, 1), 0);
    kn_socket_local(holder, &address);
    cr_assert_eq(kn_socket_bind(&address, false), -EADDRINUSE);
    shared = kn_socket_bind(&address, true);
    cr_assert_geq(shared, 0);
    close(shared);
    close(holder);
}

Test(socket, an_address_of_another_machine_is_not_available)
{
    union kn_address address;

    cr_assert_eq(kn_address_parse(slice("192.0.2.1"), 0, &address), 0);
    cr_assert_eq(kn_socket_bind(&address, true), -EADDRNOTAVAIL);
}

Test(socket, knows_both_ends_and_says_nothing_of_none)
{
    union kn_address address;
    union kn_address peer;
    char text[KN_ADDRESS_TEXT];
    int listening;
    int client;
    int accepted;

    cr_assert_eq(kn_address_parse(slice("127.0.0.1"), 0, &address), 0);
    listening = kn_socket_bind(&address, false);
    cr_assert_eq(listen(listening, 1), 0);
    kn_socket_local(listening, &address);
    client = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(client, &address.any, sizeof(address.in4)), 0);
    accepted = accept(listening, NULL, NULL);
    kn_socket_local(client, &address);
    kn_socket_peer(accepted, &peer);
    cr_assert_eq(kn_address_port(&peer), kn_address_port(&address));
    kn_socket_peer(listening, &peer);
    kn_address_format(&peer, text);
    cr_assert_str_eq(text, "0.0.0.0");
    cr_assert_eq(kn_address_port(&peer), 0);
    close(client);
    close(accepted);
    close(listening);
}
