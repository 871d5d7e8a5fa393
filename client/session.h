/* What the commands that change the directory share: a device, a connection, the gate, and sealed commands to it. */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "client/ask.h"
#include "client/identity.h"

typedef struct {
    mqtt_link link;
    asker asker;
    device_files files;
    pep_device device;
    pep_seq *seq;
    bool counts;                                   /* the device numbers from 1; set before session_open: it must */
    uint8_t (*authorities)[PEP_SIGN_PUBLIC_BYTES]; /* that the gate must be certified by; may be NULL */
    size_t authority_count;
} session;

/* Reads the key file and its numbers. Zero it before. 0, or an exit code after a line; session_close either way. */
int session_open(session *s, const char *key, const option_list *authorities);

/* Connects and learns who the gate is. 0, or an exit code after a line on stderr. */
int session_connect(session *s);

void session_close(session *s);

/* The device's next seq, as its state says that it numbers; then `counts` says so, too. */
pep_reason session_next_seq(session *s, uint64_t *seq);

/*
 * Seals the command whose JSON is made for `q` and sends it: 0, and `out` is what the gate said, or an exit code after
 * a line. `from` NULL: the session's device, with its next seq; else that device, with `seq`.
 */
int session_command(session *s, reply *out, question *q, const char *json, const pep_device *from, uint64_t seq);

/* What the directory has of a device, taken apart. */
typedef struct {
    uint8_t bytes[PEP_ENTRY_BYTES_MAX];
    pep_entry entry; /* views into bytes */
    pep_statement statement;
    pep_head head;
} found_entry;

/* Takes an entry apart; nothing but its own signatures is judged. */
pep_reason read_found(found_entry *out, const cJSON *item);

/* Looks up one id: 0, or an exit code after a line on stderr. */
int session_lookup(session *s, found_entry *out, const char *id);

/* Reads a file that --certificate names; *n is 0 where `path` is NULL. 0, or an exit code after a line. */
int read_certificate(uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX], size_t *n, const char *path);

/* Reads what --groups names, A,B, into a certificate: 0, or 2 after a line. NULL: none. */
int read_groups(pep_certificate *c, const char *groups);

#endif
