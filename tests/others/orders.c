/*
 * A filter on libmilter that does what a message asks for: each of its headers X-Do is an order,
 * carried out at the end of the message, in their order.
 *
 *     cc -O2 -o orders orders.c -lmilter -lpthread
 *     orders ADDRESS [nr] [leading-space]
 *
 *     addheader NAME VALUE        insheader INDEX NAME VALUE     chgheader INDEX NAME [VALUE]
 *     addrcpt PATH [ARGUMENTS]    delrcpt PATH                   chgfrom PATH [ARGUMENTS]
 *     body TEXT                   quarantine REASON              progress
 *     trace NAME                  macro NAME SYMBOL              reply CODE XCODE TEXT[|TEXT...]
 *     verdict accept|reject|tempfail|discard
 *
 * `body` is a piece of the new body, with CRLF added. `trace` adds a header that tells the callbacks
 * so far, `macro` one with a macro's value. Recipients at nobody.test are refused, at later.test
 * for now. Header `X-Do: skip` stops the body after its first piece. With `nr` all but recipients,
 * body and end go without a reply, with `leading-space` values keep it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libmilter/mfapi.h>
#include <libmilter/mfdef.h>

#define MOST 64

struct seen {
    char *orders[MOST];
    int count;
    int skip;
    char trace[256];
};

static int nr, leading_space;

static struct seen *seen_of(SMFICTX *context)
{
    struct seen *seen = smfi_getpriv(context);

    if (seen == NULL && (seen = calloc(1, sizeof *seen)) != NULL)
        smfi_setpriv(context, seen);
    return seen;
}

static void forget(SMFICTX *context)
{
    struct seen *seen = smfi_getpriv(context);

    if (seen == NULL)
        return;
    while (seen->count > 0)
        free(seen->orders[--seen->count]);
    seen->skip = 0;
    /* What belongs to the connection stays. */
    seen->trace[strspn(seen->trace, "CH")] = '\0';
}

/* A letter of the trace; of a run of the same one only the first. */
static struct seen *note(SMFICTX *context, char letter)
{
    struct seen *seen = seen_of(context);
    size_t length;

    if (seen == NULL)
        return NULL;
    length = strlen(seen->trace);
    if (length + 1 < sizeof seen->trace && (length == 0 || seen->trace[length - 1] != letter)) {
        seen->trace[length] = letter;
        seen->trace[length + 1] = '\0';
    }
    return seen;
}

static sfsistat go_on(SMFICTX *context, char letter)
{
    if (note(context, letter) == NULL)
        return SMFIS_TEMPFAIL;
    return nr ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_negotiate(SMFICTX *context, unsigned long actions, unsigned long steps,
                             unsigned long unused2, unsigned long unused3,
                             unsigned long *want_actions, unsigned long *want_steps,
                             unsigned long *want2, unsigned long *want3)
{
    (void)unused2, (void)unused3;
    *want_actions = actions;
    *want_steps = steps & SMFIP_SKIP;
    if (nr)
        *want_steps |= steps & (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_DATA
                                | SMFIP_NR_UNKN | SMFIP_NR_HDR | SMFIP_NR_EOH);
    if (leading_space)
        *want_steps |= steps & SMFIP_HDR_LEADSPC;
    *want2 = *want3 = 0;
    smfi_setsymlist(context, SMFIM_CONNECT, "j {client_addr} {daemon_name}");
    /* Of the two Sendmail looks at the wrong one for the end of the message. */
    smfi_setsymlist(context, SMFIM_EOM, "i {client_port}");
    smfi_setsymlist(context, SMFIM_EOH, "i {client_port}");
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address)
{
    (void)host, (void)address;
    return go_on(context, 'C');
}

static sfsistat on_helo(SMFICTX *context, char *name)
{
    (void)name;
    return go_on(context, 'H');
}

static sfsistat on_mail(SMFICTX *context, char **path)
{
    (void)path;
    return go_on(context, 'M');
}

static sfsistat on_rcpt(SMFICTX *context, char **path)
{
    if (note(context, 'R') == NULL)
        return SMFIS_TEMPFAIL;
    if (strstr(path[0], "@nobody.test") != NULL) {
        smfi_setreply(context, "550", "5.1.1", "Nobody here");
        return SMFIS_REJECT;
    }
    return strstr(path[0], "@later.test") != NULL ? SMFIS_TEMPFAIL : SMFIS_CONTINUE;
}

static sfsistat on_data(SMFICTX *context)
{
    return go_on(context, 'T');
}

static sfsistat on_unknown(SMFICTX *context, const char *line)
{
    (void)line;
    return go_on(context, 'U');
}

static sfsistat on_header(SMFICTX *context, char *name, char *value)
{
    struct seen *seen = seen_of(context);

    value += strspn(value, " ");
    if (seen != NULL && strcasecmp(name, "X-Do") == 0) {
        if (strcmp(value, "skip") == 0)
            seen->skip = 1;
        else if (seen->count < MOST)
            seen->orders[seen->count++] = strdup(value);
    }
    return go_on(context, 'L');
}

static sfsistat on_eoh(SMFICTX *context)
{
    return go_on(context, 'N');
}

static sfsistat on_body(SMFICTX *context, unsigned char *bytes, size_t length)
{
    struct seen *seen = note(context, 'B');

    (void)bytes, (void)length;
    return seen == NULL ? SMFIS_TEMPFAIL : seen->skip ? SMFIS_SKIP : SMFIS_CONTINUE;
}

/* The word up to the next space; what follows that is left in *rest. */
static char *word(char **rest)
{
    char *start = *rest, *space = strchr(start, ' ');

    *rest = space == NULL ? start + strlen(start) : space + 1;
    if (space != NULL)
        *space = '\0';
    return start;
}

static int reply(SMFICTX *context, char *rest)
{
    char *code = word(&rest), *xcode = word(&rest), *lines[4] = { NULL };
    int n = 0;

    for (char *text = strtok(rest, "|"); text != NULL && n < 4; text = strtok(NULL, "|"))
        lines[n++] = text;
    if (n < 2)
        return smfi_setreply(context, code, xcode, lines[0]);
    return smfi_setmlreply(context, code, xcode, lines[0], lines[1], lines[2], lines[3], NULL);
}

static int replace(SMFICTX *context, char *text)
{
    if (smfi_replacebody(context, (unsigned char *)text, strlen(text)) != MI_SUCCESS)
        return MI_FAILURE;
    return smfi_replacebody(context, (unsigned char *)"\r\n", 2);
}

static int carry_out(SMFICTX *context, char *order, struct seen *seen, sfsistat *verdict)
{
    char *rest = order, *what = word(&rest), *name, *args;
    int index;

    if (strcmp(what, "addheader") == 0)
        return name = word(&rest), smfi_addheader(context, name, rest);
    if (strcmp(what, "insheader") == 0)
        return index = atoi(word(&rest)), name = word(&rest),
               smfi_insheader(context, index, name, rest);
    if (strcmp(what, "chgheader") == 0)
        return index = atoi(word(&rest)), name = word(&rest),
               smfi_chgheader(context, name, index, *rest == '\0' ? NULL : rest);
    if (strcmp(what, "addrcpt") == 0) {
        name = word(&rest), args = rest;
        return *args == '\0' ? smfi_addrcpt(context, name) : smfi_addrcpt_par(context, name, args);
    }
    if (strcmp(what, "delrcpt") == 0)
        return smfi_delrcpt(context, rest);
    if (strcmp(what, "chgfrom") == 0)
        return name = word(&rest), smfi_chgfrom(context, name, *rest == '\0' ? NULL : rest);
    if (strcmp(what, "body") == 0)
        return replace(context, rest);
    if (strcmp(what, "quarantine") == 0)
        return smfi_quarantine(context, rest);
    if (strcmp(what, "progress") == 0)
        return smfi_progress(context);
    if (strcmp(what, "trace") == 0)
        return smfi_addheader(context, rest, seen->trace);
    if (strcmp(what, "macro") == 0) {
        name = word(&rest), args = smfi_getsymval(context, rest);
        return smfi_addheader(context, name, args == NULL ? "none" : args);
    }
    if (strcmp(what, "reply") == 0) {
        *verdict = *rest == '4' ? SMFIS_TEMPFAIL : SMFIS_REJECT;
        return reply(context, rest);
    }
    if (strcmp(what, "verdict") != 0)
        return MI_FAILURE;
    *verdict = strcmp(rest, "accept") == 0 ? SMFIS_ACCEPT
        : strcmp(rest, "reject") == 0 ? SMFIS_REJECT
        : strcmp(rest, "discard") == 0 ? SMFIS_DISCARD
                                       : SMFIS_TEMPFAIL;
    return MI_SUCCESS;
}

static sfsistat on_end(SMFICTX *context)
{
    struct seen *seen = note(context, 'E');
    sfsistat verdict = SMFIS_CONTINUE;

    if (seen == NULL)
        return SMFIS_TEMPFAIL;
    for (int n = 0; n < seen->count; n++) {
        char *order = strdup(seen->orders[n]);
        int done = order == NULL ? MI_FAILURE : carry_out(context, order, seen, &verdict);

        free(order);
        if (done != MI_SUCCESS) {
            fprintf(stderr, "orders: failed: %s\n", seen->orders[n]);
            smfi_setreply(context, "451", "4.3.0", "An order failed");
            verdict = SMFIS_TEMPFAIL;
            break;
        }
    }
    forget(context);
    return verdict;
}

static sfsistat on_abort(SMFICTX *context)
{
    forget(context);
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *context)
{
    forget(context);
    free(smfi_getpriv(context));
    smfi_setpriv(context, NULL);
    return SMFIS_CONTINUE;
}

int main(int count, char **args)
{
    struct smfiDesc filter = {
        .xxfi_name = "orders",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_CHGBODY | SMFIF_ADDRCPT
            | SMFIF_ADDRCPT_PAR | SMFIF_DELRCPT | SMFIF_CHGFROM | SMFIF_QUARANTINE
            | SMFIF_SETSYMLIST,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_header = on_header,
        .xxfi_eoh = on_eoh,
        .xxfi_body = on_body,
        .xxfi_eom = on_end,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_unknown = on_unknown,
        .xxfi_data = on_data,
        .xxfi_negotiate = on_negotiate,
    };

    for (int n = 2; n < count; n++) {
        nr |= strcmp(args[n], "nr") == 0;
        leading_space |= strcmp(args[n], "leading-space") == 0;
    }
    if (count < 2 || smfi_setconn(args[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS) {
        fprintf(stderr, "usage: orders ADDRESS [nr] [leading-space]\n");
        return 2;
    }
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
