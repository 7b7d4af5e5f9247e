/*
 * What bench-filter does, on libmilter: every event is looked at and nothing is changed, but for
 * a header in mode addheader. In mode nr all but the end of a message go without a reply.
 *
 *     cc -O2 -o libmilter libmilter.c -lmilter -lpthread
 *     libmilter inet:PORT@127.0.0.1 noop|addheader|nr
 *     libmilter --version
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>

enum mode { NOOP, ADDHEADER, NR };

static enum mode mode = NOOP;

static const unsigned long no_replies = SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL
    | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_UNKN | SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY;

static sfsistat go_on(void)
{
    return mode == NR ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_negotiate(SMFICTX *context, unsigned long actions, unsigned long steps,
                             unsigned long unused2, unsigned long unused3,
                             unsigned long *want_actions, unsigned long *want_steps,
                             unsigned long *want2, unsigned long *want3)
{
    (void)context, (void)actions, (void)steps, (void)unused2, (void)unused3;
    *want_actions = mode == ADDHEADER ? SMFIF_ADDHDRS : 0;
    *want_steps = mode == NR ? no_replies : 0;
    *want2 = *want3 = 0;
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address)
{
    (void)context, (void)host, (void)address;
    return go_on();
}

static sfsistat on_text(SMFICTX *context, char *text)
{
    (void)context, (void)text;
    return go_on();
}

static sfsistat on_path(SMFICTX *context, char **path)
{
    (void)context, (void)path;
    return go_on();
}

static sfsistat on_header(SMFICTX *context, char *name, char *value)
{
    (void)context, (void)name, (void)value;
    return go_on();
}

static sfsistat on_step(SMFICTX *context)
{
    (void)context;
    return go_on();
}

static sfsistat on_body(SMFICTX *context, unsigned char *bytes, size_t length)
{
    (void)context, (void)bytes, (void)length;
    return go_on();
}

static sfsistat on_unknown(SMFICTX *context, const char *line)
{
    (void)context, (void)line;
    return go_on();
}

static sfsistat on_end(SMFICTX *context)
{
    if (mode == ADDHEADER && smfi_addheader(context, "X-Bench", "seen") != MI_SUCCESS)
        return SMFIS_TEMPFAIL;
    return SMFIS_ACCEPT;
}

static sfsistat on_leave(SMFICTX *context)
{
    (void)context;
    return SMFIS_CONTINUE;
}

int main(int count, char **args)
{
    struct smfiDesc filter = {
        .xxfi_name = "libmilter",
        .xxfi_version = SMFI_VERSION,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_text,
        .xxfi_envfrom = on_path,
        .xxfi_envrcpt = on_path,
        .xxfi_header = on_header,
        .xxfi_eoh = on_step,
        .xxfi_body = on_body,
        .xxfi_eom = on_end,
        .xxfi_abort = on_leave,
        .xxfi_close = on_leave,
        .xxfi_unknown = on_unknown,
        .xxfi_data = on_step,
        .xxfi_negotiate = on_negotiate,
    };
    struct rlimit files;

    if (count == 2 && strcmp(args[1], "--version") == 0) {
        unsigned int major, minor, patch;
        smfi_version(&major, &minor, &patch);
        printf("%u.%u.%u\n", major, minor, patch);
        return 0;
    }
    if (count != 3) {
        fprintf(stderr, "usage: libmilter ADDRESS noop|addheader|nr\n");
        return 2;
    }
    if (strcmp(args[2], "addheader") == 0)
        mode = ADDHEADER;
    else if (strcmp(args[2], "nr") == 0)
        mode = NR;
    filter.xxfi_flags = mode == ADDHEADER ? SMFIF_ADDHDRS : 0;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    smfi_setbacklog(1024);
    if (smfi_setconn(args[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS) {
        fprintf(stderr, "libmilter: cannot set up\n");
        return 1;
    }
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
