/* SPDX-License-Identifier: MIT */
#include "io/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
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

/* Unix sockets */

enum { LONGEST_PATH = 107 };

/* A directory of the test's own, which it leaves empty. */
struct place {
    char directory[64];
    char path[80];
    union kn_address address;
};

static struct place make_place(void)
{
    struct place place = {.directory = "/tmp/kino-test-XXXXXX"};

    cr_assert_not_null(mkdtemp(place.directory));
    snprintf(place.path, sizeof(place.path), "%s/socket", place.directory);
    cr_assert_eq(kn_address_from_path(slice(place.path), &place.address), 0);
    return place;
}

static void remove_place(const struct place *place)
{
    unlink(place->path);
    cr_assert_eq(rmdir(place->directory), 0, "something is left in %s", place->directory);
}

static int bind_there(const struct place *place, mode_t mode, struct kn_socket_file *file)
{
    return kn_socket_bind_path(&place->address, mode, 8, file);
}

/* 0, or what connect says. */
static int connect_there(const struct place *place)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const int rc = connect(fd, &place->address.any, sizeof(place->address.local)) < 0 ? -errno : 0;

    close(fd);
    return rc;
}

static void assert_described(const union kn_address *address, const char *expected)
{
    char text[KN_ADDRESS_NAME];

    kn_address_describe(address, text);
    cr_assert_str_eq(text, expected);
}

Test(socket, addresses_are_described_as_people_write_them)
{
    union kn_address address;

    kn_address_parse(slice("127.0.0.1"), 80, &address);
    assert_described(&address, "127.0.0.1:80");
    kn_address_parse(slice("::1"), 8080, &address);
    assert_described(&address, "[::1]:8080");
    kn_address_from_path(slice("/run/kino"), &address);
    assert_described(&address, "unix:/run/kino");
    kn_address_from_path((struct kino_slice){"\0kino", 5}, &address);
    assert_described(&address, "unix:@kino");
}

Test(socket, a_path_has_an_end_and_no_nul_inside)
{
    char path[LONGEST_PATH + 1];
    union kn_address address;
    char text[KN_ADDRESS_TEXT] = "x";

    memset(path, 'a', sizeof(path));
    cr_assert_eq(kn_address_from_path((struct kino_slice){path, LONGEST_PATH}, &address), 0);
    cr_assert_eq(address.local.sun_path[LONGEST_PATH], '\0');
    cr_assert_eq(kn_address_from_path((struct kino_slice){path, LONGEST_PATH + 1}, &address),
                 -ENAMETOOLONG);
    cr_assert_eq(kn_address_from_path((struct kino_slice){path, 0}, &address), KINO_INVALID);
    cr_assert_eq(kn_address_from_path((struct kino_slice){"a\0b", 3}, &address), KINO_INVALID);
    cr_assert_eq(kn_address_from_path((struct kino_slice){"\0", 1}, &address), KINO_INVALID);
    cr_assert_eq(kn_address_from_path((struct kino_slice){"\0a\0", 3}, &address), KINO_INVALID);
    kn_address_from_path(slice("/a"), &address);
    cr_assert_eq(kn_address_format(&address, text), 0, "it is no number");
    cr_assert_str_eq(text, "");
    cr_assert_eq(kn_address_port(&address), 0);
}

Test(socket, a_path_is_bound_listened_on_and_removed)
{
    struct place place = make_place();
    struct kn_socket_file file;
    struct stat status;
    const int fd = bind_there(&place, 0604, &file);

    cr_assert_geq(fd, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(connect_there(&place), 0);
    cr_assert_eq(stat(place.path, &status), 0);
    cr_assert_eq(status.st_mode, S_IFSOCK | 0604);
    cr_assert_eq(status.st_ino, file.inode);
    kn_socket_remove_path(&place.address, &file);
    cr_assert_eq(access(place.path, F_OK), -1);
    close(fd);
    remove_place(&place);
}

Test(socket, a_longest_path_is_bound)
{
    char path[LONGEST_PATH + 1];
    union kn_address address;
    struct kn_socket_file file;
    int fd;

    memset(path, '/', sizeof(path)); /* as many as it takes */
    memcpy(path, "/tmp", strlen("/tmp"));
    snprintf(path + LONGEST_PATH - 20, 21, "kino-test-%010d", getpid());
    cr_assert_eq(kn_address_from_path((struct kino_slice){path, LONGEST_PATH}, &address), 0);
    fd = kn_socket_bind_path(&address, 0, 1, &file);
    cr_assert_geq(fd, 0, "%s", strerror(-fd));
    kn_socket_remove_path(&address, &file);
    cr_assert_eq(access(address.local.sun_path, F_OK), -1);
    close(fd);
}

Test(socket, the_umask_rules_where_no_mode_is_given)
{
    struct place place = make_place();
    struct kn_socket_file file;
    struct stat status;
    const mode_t before = umask(027);
    const int fd = bind_there(&place, 0, &file);

    umask(before);
    cr_assert_geq(fd, 0);
    cr_assert_eq(stat(place.path, &status), 0);
    cr_assert_eq(status.st_mode, S_IFSOCK | 0750);
    close(fd);
    remove_place(&place);
}

Test(socket, a_stale_file_is_replaced_and_a_live_one_is_not)
{
    struct place place = make_place();
    struct kn_socket_file file;
    struct kn_socket_file other;
    const int first = bind_there(&place, 0, &file);
    int second;

    cr_assert_geq(first, 0);
    cr_assert_eq(bind_there(&place, 0, &other), -EADDRINUSE);
    cr_assert_eq(connect_there(&place), 0, "it is as before");
    close(first);
    cr_assert_eq(connect_there(&place), -ECONNREFUSED);
    second = bind_there(&place, 0, &other);
    cr_assert_geq(second, 0);
    cr_assert_eq(connect_there(&place), 0);
    close(second);
    remove_place(&place);
}

Test(socket, a_socket_of_datagrams_is_live_too)
{
    struct place place = make_place();
    struct kn_socket_file file;
    const int holder = socket(AF_UNIX, SOCK_DGRAM, 0);

    cr_assert_eq(bind(holder, &place.address.any, sizeof(place.address.local)), 0);
    cr_assert_eq(bind_there(&place, 0, &file), -EADDRINUSE);
    cr_assert_eq(access(place.path, F_OK), 0);
    close(holder);
    remove_place(&place);
}

Test(socket, a_full_backlog_is_live_too)
{
    struct place place = make_place();
    struct kn_socket_file file;
    const int holder = kn_socket_bind_path(&place.address, 0, 0, &file);
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);

    cr_assert_eq(connect(client, &place.address.any, sizeof(place.address.local)), 0);
    cr_assert_eq(bind_there(&place, 0, &file), -EADDRINUSE);
    close(client);
    close(holder);
    remove_place(&place);
}

Test(socket, what_is_no_socket_is_left_alone)
{
    struct place place = make_place();
    struct place target = make_place();
    struct kn_socket_file file;
    const int stale = bind_there(&target, 0, &file);

    close(stale);
    cr_assert_eq(symlink(target.path, place.path), 0);
    cr_assert_eq(bind_there(&place, 0, &file), -EEXIST, "nor a link to a stale socket");
    cr_assert_eq(unlink(place.path), 0);
    cr_assert_eq(access(target.path, F_OK), 0);
    close(open(place.path, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(bind_there(&place, 0, &file), -EEXIST);
    cr_assert_eq(access(place.path, F_OK), 0);
    remove_place(&place);
    remove_place(&target);
}

Test(socket, a_directory_that_is_not_there_is_said_so)
{
    struct kn_socket_file file;
    union kn_address address;

    cr_assert_eq(kn_address_from_path(slice("/nowhere/to/be/found"), &address), 0);
    cr_assert_eq(kn_socket_bind_path(&address, 0, 1, &file), -ENOENT);
}

Test(socket, what_took_the_place_of_a_path_stays)
{
    struct place place = make_place();
    struct kn_socket_file file;
    const int fd = bind_there(&place, 0, &file);
    int usurper;

    cr_assert_eq(unlink(place.path), 0);
    kn_socket_remove_path(&place.address, &file);
    usurper = bind_there(&place, 0, &(struct kn_socket_file){0});
    cr_assert_geq(usurper, 0);
    kn_socket_remove_path(&place.address, &file);
    cr_assert_eq(connect_there(&place), 0);
    close(usurper);
    close(fd);
    remove_place(&place);
}

Test(socket, a_locked_directory_delays_but_does_not_prevent)
{
    struct place place = make_place();
    struct kn_socket_file file;
    const int directory = open(place.directory, O_RDONLY | O_DIRECTORY);
    int fd;

    cr_assert_eq(flock(directory, LOCK_EX), 0);
    fd = bind_there(&place, 0, &file);
    cr_assert_geq(fd, 0);
    close(fd);
    close(directory);
    remove_place(&place);
}

Test(socket, an_abstract_name_needs_no_file)
{
    char name[32] = "";
    union kn_address address;
    union kn_address local;
    struct kn_socket_file file;
    const int len = 1 + snprintf(name + 1, sizeof(name) - 1, "kino-test-%d", getpid());
    int fd;

    cr_assert_eq(kn_address_from_path((struct kino_slice){name, (size_t)len}, &address), 0);
    fd = kn_socket_bind_path(&address, 0, 1, &file);
    cr_assert_geq(fd, 0);
    cr_assert_eq(file.inode, 0);
    cr_assert_eq(kn_socket_bind_path(&address, 0, 1, &file), -EADDRINUSE);
    kn_socket_local(fd, &local);
    cr_assert_arr_eq(local.local.sun_path, address.local.sun_path, sizeof(local.local.sun_path));
    cr_assert_null(kn_socket_find_fault(fd, &local));
    kn_socket_remove_path(&address, &file);
    close(fd);
}

/* Sockets of others */

static void assert_fault(int fd, const char *expected)
{
    union kn_address address;
    const char *fault = kn_socket_find_fault(fd, &address);

    cr_assert_not_null(fault, "expected: %s", expected);
    cr_assert_str_eq(fault, expected);
    if (fd >= 0)
        close(fd);
}

Test(socket, says_what_keeps_a_descriptor_from_being_listened_on)
{
    int pair[2];

    assert_fault(-1, "it is not open");
    assert_fault(open("/dev/null", O_RDONLY), "it is no socket");
    assert_fault(socket(AF_INET, SOCK_DGRAM, 0), "it is no stream socket");
    assert_fault(socket(AF_UNIX, SOCK_SEQPACKET, 0), "it is no stream socket");
    assert_fault(socket(AF_INET, SOCK_STREAM, 0), "it is bound to no address");
    assert_fault(socket(AF_INET6, SOCK_STREAM, 0), "it is bound to no address");
    assert_fault(socket(AF_UNIX, SOCK_STREAM, 0), "it is bound to no address");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_fault(pair[0], "it is connected");
    close(pair[1]);
}

Test(socket, takes_what_is_bound_and_what_listens)
{
    union kn_address address;
    union kn_address found;
    int fd;

    cr_assert_eq(kn_address_parse(slice("127.0.0.1"), 0, &address), 0);
    fd = kn_socket_bind(&address, false);
    cr_assert_null(kn_socket_find_fault(fd, &found));
    cr_assert_gt(kn_address_port(&found), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_null(kn_socket_find_fault(fd, &found));
    close(fd);
}

Test(socket, prepares_what_others_made)
{
    union kn_address address = {.in4.sin_family = AF_INET};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    cr_assert_eq(bind(fd, &address.any, sizeof(address.in4)), 0);
    kn_socket_prepare(fd);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    cr_assert_neq(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    close(fd);
}
