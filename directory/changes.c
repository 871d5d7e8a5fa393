/* What changes the directory: enroll, rotate, revoke, token. Everything is checked before anything is written. */
#include <string.h>

#include "directory/commands.h"

#define TOKENS_MAX       100000
#define TOKEN_LIFE_MAX_S (366ULL * 86400)
#define CUTOFF_AHEAD_US  120000000ULL
#define STATEMENTS_MAX   1000 /* of one id that the device itself may add to */
#define ROTATIONS_MAX    10   /* of one id by itself, in ROTATIONS_S */
#define ROTATIONS_S      3600

static uint64_t now_s(const session *x)
{
    return x->now_us / 1000000;
}

/* ---- certificates ---- */

typedef struct {
    uint8_t bytes[PEP_CERTIFICATE_BYTES_MAX];
    size_t n;
    pep_certificate parsed;
} certificate;

static pep_reason parse_certificate(session *x, certificate *out)
{
    const directory_rules *rules = &registrar_settings(x->r)->rules;
    return pep_certificate_parse(&out->parsed, out->bytes, out->n,
                                 (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])rules->authorities, rules->authority_count);
}

/* A certificate that came along, where one did: out->n is 0 where not. */
static bool want_certificate(session *x, command *c, certificate *out, const pep_record *record)
{
    out->n = 0;
    if (!want_bytes(c, out->bytes, &out->n, sizeof out->bytes, "certificate", false))
        return false;
    if (out->n == 0)
        return true;
    if (registrar_settings(x->r)->rules.authority_count == 0) {
        refuse_with(c, PEP_BAD_COMMAND, "no authority is configured here that could have made the certificate");
        return false;
    }
    pep_reason reason = parse_certificate(x, out);
    if (reason != PEP_NOT_CERTIFIED)
        count_verified(x, reason);
    if (reason == PEP_OK)
        reason = pep_certificate_covers(&out->parsed, record->id, record->sign_kid, false, now_s(x));
    if (reason != PEP_OK)
        refuse(c, reason);
    return reason == PEP_OK;
}

static chain_link link_of(const brought *b, const certificate *cert)
{
    chain_link link = {.statement = &b->statement, .bytes = {b->bytes, b->n}};
    if (cert != NULL && cert->n > 0) {
        link.certificate = (pep_view){cert->bytes, cert->n};
        link.certified = &cert->parsed;
    }
    return link;
}

/* ---- what all have in common ---- */

static bool record_in_time(const session *x, command *c, const pep_record *record)
{
    if (record->issued_s > now_s(x) + SKEW_S)
        refuse_with(c, PEP_BAD_COMMAND, "the record was issued in the future");
    else if (record->not_after_s < now_s(x))
        refuse(c, PEP_EXPIRED_SIGNER);
    return c->reason == PEP_OK;
}

static store_result answer_version(command *c, const char *id, uint64_t version)
{
    c->data = cJSON_CreateObject();
    if (!json_add_text(c->data, "id", id) || !json_add_number(c->data, "version", version))
        return refuse(c, PEP_NO_MEMORY);
    return STORE_OK;
}

/* What is stored already, is acknowledged again; a certificate that is newer than the one there, replaces it. */
static store_result acknowledge(session *x, command *c, const key_row *head, uint64_t position, const brought *b,
                                const certificate *cert)
{
    statement_row last = {.n = 0};
    certificate *stored;
    bool found;
    const pep_statement *st = &b->statement;
    if (cert == NULL || cert->n == 0 || position != head->position || head->state != SIGNER_CURRENT)
        return answer_version(c, st->id, st->version);
    store_result result = rows_statement(x->s, &last, &found, head->id, position);
    if (result != STORE_OK || !found)
        return result == STORE_OK ? STORE_FAILED : result;
    certificate before = {.n = last.certificate_n};
    stored = &before;
    memcpy(stored->bytes, last.certificate, last.certificate_n);
    bool newer = last.certificate_n == 0 || parse_certificate(x, stored) != PEP_OK ||
                 stored->parsed.issued_s < cert->parsed.issued_s;
    bool same = last.certificate_n == cert->n && memcmp(last.certificate, cert->bytes, cert->n) == 0;
    if (newer && !same) {
        chain_link link = link_of(b, cert);
        c->changed = c->certified = true;
        result = chain_certify(x->s, head, &last, &link);
    }
    return result == STORE_OK ? answer_version(c, st->id, st->version) : result;
}

/* Holds the directory until the end of the transaction, so that nobody else enrols the same meanwhile. */
static store_result hold(session *x)
{
    uint64_t ignored;
    return rows_begin_change(x->s, &ignored);
}

/* ---- enroll ---- */

/* By whom a device is let in, as far as it can be said without the store. */
static bool judge_admission(session *x, command *c, certificate *cert, uint8_t token_kid[PEP_KID_BYTES],
                            const brought *b)
{
    uint8_t proof[PEP_PROOF_BYTES_MAX];
    size_t proof_n;
    directory_enroll enroll = registrar_settings(x->r)->rules.enroll;
    if (!want_bytes(c, proof, &proof_n, sizeof proof, "proof", false) ||
        !want_certificate(x, c, cert, &b->statement.record))
        return false;
    if (enroll == DIRECTORY_AUTHORITY && cert->n == 0)
        refuse(c, PEP_NOT_CERTIFIED);
    if (enroll == DIRECTORY_TOKEN && proof_n == 0)
        refuse(c, PEP_BAD_TOKEN);
    if (enroll != DIRECTORY_TOKEN && proof_n > 0)
        refuse_with(c, PEP_BAD_COMMAND, "no tokens are taken here, and so no proof");
    if (c->reason != PEP_OK || enroll != DIRECTORY_TOKEN)
        return c->reason == PEP_OK;
    pep_reason reason = pep_token_verify(token_kid, proof, proof_n, b->statement.hash);
    count_verified(x, reason);
    if (reason != PEP_OK)
        refuse(c, reason);
    return reason == PEP_OK;
}

static store_result use_token(session *x, command *c, const uint8_t kid[PEP_KID_BYTES], const pep_statement *st)
{
    token_row token = {.used = false};
    bool found;
    store_result result = rows_token(x->s, &token, &found, kid);
    if (result != STORE_OK)
        return result;
    if (!found || token.used || token.expires_s < now_s(x) || strcmp(token.id, st->id) != 0)
        return refuse(c, PEP_BAD_TOKEN);
    token.used = true;
    memcpy(token.used_for, st->hash, sizeof token.used_for);
    return rows_put_token(x->s, &token);
}

/* A key that is in the store already: the same record again, or somebody else's key. */
static store_result enroll_again(session *x, command *c, const key_row *key, const brought *b, const certificate *cert)
{
    uint64_t position;
    const pep_statement *st = &b->statement;
    if (strcmp(key->id, st->id) != 0)
        return refuse(c, PEP_KID_TAKEN);
    store_result result = rows_position_of(x->s, &position, st->id, st->hash);
    if (result != STORE_OK)
        return result;
    if (position == 0)
        return refuse(c, PEP_WRONG_VERSION);
    if (key->state != SIGNER_CURRENT)
        return refuse(c, key->state == SIGNER_REVOKED ? PEP_REVOKED_SIGNER : PEP_ROTATED_SIGNER);
    return acknowledge(x, c, key, position, b, cert);
}

/* Whether the id and the keys are free, and there is room. */
static store_result judge_free(session *x, command *c, const pep_statement *st)
{
    key_row other;
    bool found;
    bool taken;
    uint64_t count;
    store_result result = rows_head(x->s, &other, &found, st->id);
    if (result != STORE_OK)
        return result;
    if (found)
        return refuse(c, PEP_ID_TAKEN);
    result = chain_keys_taken(x->s, &taken, st, NULL, true);
    if (result != STORE_OK)
        return result;
    if (taken)
        return refuse(c, PEP_KID_TAKEN);
    result = rows_count_ids(x->s, &count);
    if (result == STORE_OK && count >= registrar_settings(x->r)->rules.max_records)
        return refuse(c, PEP_TOO_MANY);
    return result;
}

/* Where anybody may come, an admin is whom the operator's folder has by that name, and not who comes first. */
static bool is_admins_name(const directory_rules *rules, const char *id)
{
    for (size_t i = 0; i < rules->admin_count; i++)
        if (rules->admins[i][0] != '@' && strcmp(rules->admins[i], id) == 0)
            return true;
    return false;
}

static store_result enroll_new(session *x, command *c, const brought *b, const certificate *cert,
                               const uint8_t token_kid[PEP_KID_BYTES])
{
    chain_link link = link_of(b, cert);
    const directory_rules *rules = &registrar_settings(x->r)->rules;
    directory_enroll enroll = rules->enroll;
    if (enroll == DIRECTORY_OPEN && is_admins_name(rules, b->statement.id))
        return refuse_with(c, PEP_CLOSED, "that is an admin's id: the operator adds its record by hand");
    store_result result = judge_free(x, c, &b->statement);
    if (result == STORE_OK && c->reason == PEP_OK && enroll == DIRECTORY_TOKEN)
        result = use_token(x, c, token_kid, &b->statement);
    if (result != STORE_OK || c->reason != PEP_OK)
        return result;
    c->changed = true;
    result = chain_begin(x->s, &link, false);
    return result == STORE_OK ? answer_version(c, b->statement.id, b->statement.version) : result;
}

store_result run_enroll(session *x, command *c)
{
    brought mine;
    const brought *b;
    certificate cert;
    uint8_t token_kid[PEP_KID_BYTES] = {0};
    key_row key;
    bool found;
    if (registrar_settings(x->r)->rules.enroll == DIRECTORY_CLOSED)
        return refuse(c, PEP_CLOSED);
    if (!want_statement(x, c, &b, "record", &mine))
        return STORE_OK;
    const pep_record *record = &b->statement.record;
    if (b->statement.kind != PEP_STATEMENT_RECORD)
        return refuse_with(c, PEP_BAD_COMMAND, "record is a rotation or a revocation");
    if (x->known && memcmp(x->signer.kid, record->sign_kid, PEP_KID_BYTES) != 0)
        return refuse_with(c, PEP_NOT_AUTHORIZED, "a device enrols itself: it is signed with another key");
    if (!record_in_time(x, c, record) || !judge_admission(x, c, &cert, token_kid, b))
        return STORE_OK;
    store_result result = hold(x);
    if (result == STORE_OK)
        result = rows_key(x->s, &key, &found, record->sign_kid);
    if (result != STORE_OK)
        return result;
    return found ? enroll_again(x, c, &key, b, &cert) : enroll_new(x, c, b, &cert, token_kid);
}

/* ---- rotate and revoke ---- */

/* The head that the statement says it follows; c->reason where there is none, or it is there already (*again). */
static store_result find_head(session *x, command *c, key_row *head, statement_row *last, uint64_t *again,
                              const pep_statement *st)
{
    bool found;
    *again = 0;
    last->certificate_n = 0;
    store_result result = hold(x);
    if (result == STORE_OK)
        result = visible_head(x, head, &found, st->id);
    if (result != STORE_OK)
        return result;
    if (!found)
        return refuse(c, PEP_UNKNOWN_ID);
    result = rows_position_of(x->s, again, st->id, st->hash);
    if (result != STORE_OK || *again != 0)
        return result;
    result = rows_statement(x->s, last, &found, st->id, head->position);
    return result == STORE_OK && !found ? STORE_FAILED : result;
}

static pep_trust trust_of(const directory_rules *rules)
{
    return (pep_trust){.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])rules->authorities,
                       .authority_count = rules->authority_count};
}

static pep_reason advance(session *x, pep_signed_by *by, const key_row *head, const statement_row *last,
                          const pep_statement *st, const pep_trust *trust)
{
    pep_head h;
    chain_head(&h, head, last);
    pep_reason reason = pep_head_advance(&h, by, st, trust);
    if (reason == PEP_OK || reason == PEP_BAD_SIGNATURE)
        count_verified(x, reason);
    return reason;
}

/* The certificate of the record before, where it is one for this key still. */
static bool certified_before(session *x, certificate *out, const statement_row *last, const pep_statement *st)
{
    out->n = last->certificate_n;
    memcpy(out->bytes, last->certificate, last->certificate_n);
    return out->n > 0 && parse_certificate(x, out) == PEP_OK &&
           pep_certificate_covers(&out->parsed, st->id, st->record.sign_kid, false, now_s(x)) == PEP_OK;
}

/*
 * The certificate of the new record: that which came along; or, where the signing key stays, that of the record before.
 * An older one for the same key would give back what an authority took from it since. A new key that an authority
 * itself put there by signing the rotation needs none.
 */
static bool settle_certificate(session *x, command *c, certificate *cert, const key_row *head,
                               const statement_row *last, const pep_statement *st, pep_signed_by by)
{
    certificate before;
    bool same_key = memcmp(head->kid, st->record.sign_kid, PEP_KID_BYTES) == 0;
    bool still_good = same_key && certified_before(x, &before, last, st);
    if (cert->n > 0 && still_good && cert->parsed.issued_s < before.parsed.issued_s) {
        refuse_with(c, PEP_NOT_CERTIFIED, "a certificate that was issued later is there already");
        return false;
    }
    if (cert->n > 0)
        return true;
    if (still_good) {
        *cert = before;
        return true;
    }
    if (registrar_settings(x->r)->rules.enroll != DIRECTORY_AUTHORITY || by == PEP_SIGNED_BY_AUTHORITY)
        return true;
    /* What never was certified and keeps its key, an authority once put there, or the operator. */
    if (same_key && last->certificate_n == 0)
        return true;
    refuse(c, PEP_NOT_CERTIFIED);
    return false;
}

/* A device that counts has no use for a cutoff in the future, nor has one whose clock is right. */
static bool cutoff_in_time(const session *x, command *c, const pep_statement *st)
{
    if (st->cutoff <= x->now_us + CUTOFF_AHEAD_US)
        return true;
    refuse_with(c, PEP_BAD_COMMAND, "the cutoff lies in the future");
    return false;
}

/*
 * Every key that there ever was is kept for good, here and at whoever follows, so that a device may not change its own
 * without end. When the gate took a statement counts, not when it says it was issued. What others sign, goes: it is how
 * a device comes out of that.
 */
static store_result limit_rotations(session *x, command *c, const key_row *head)
{
    uint64_t stored_s;
    if (head->position >= STATEMENTS_MAX)
        return refuse_with(c, PEP_TOO_MANY, "the device has %d statements: an authority can still change its keys",
                           STATEMENTS_MAX);
    if (head->position <= ROTATIONS_MAX)
        return STORE_OK;
    store_result result = rows_stored(x->s, &stored_s, head->id, head->position - ROTATIONS_MAX + 1);
    if (result == STORE_OK && stored_s + ROTATIONS_S > now_s(x) && stored_s <= now_s(x) + SKEW_S)
        return refuse_with(c, PEP_TOO_MANY, "the device has changed its keys %d times within an hour", ROTATIONS_MAX);
    return result;
}

static store_result rotate_head(session *x, command *c, const key_row *head, const statement_row *last,
                                const brought *b, certificate *cert)
{
    bool taken;
    pep_signed_by by;
    const pep_statement *st = &b->statement;
    const pep_trust trust = trust_of(&registrar_settings(x->r)->rules);
    pep_reason reason = advance(x, &by, head, last, st, &trust);
    if (reason != PEP_OK)
        return refuse(c, reason);
    store_result result = by == PEP_SIGNED_BY_DEVICE ? limit_rotations(x, c, head) : STORE_OK;
    if (result == STORE_OK && c->reason == PEP_OK)
        result = chain_keys_taken(x->s, &taken, st, head, true);
    if (result != STORE_OK || c->reason != PEP_OK)
        return result;
    if (taken)
        return refuse(c, PEP_KID_TAKEN);
    if (!settle_certificate(x, c, cert, head, last, st, by))
        return STORE_OK;
    chain_link link = link_of(b, cert);
    c->changed = true;
    result = chain_append(x->s, head, &link, false, x->now_us);
    return result == STORE_OK ? answer_version(c, st->id, st->version) : result;
}

store_result run_rotate(session *x, command *c)
{
    brought mine;
    const brought *b;
    certificate cert;
    key_row head;
    statement_row last = {.n = 0};
    uint64_t again;
    cert.n = 0;
    if (!want_statement(x, c, &b, "rotation", &mine))
        return STORE_OK;
    const pep_statement *st = &b->statement;
    if (st->kind != PEP_STATEMENT_ROTATION)
        return refuse_with(c, PEP_BAD_COMMAND, "rotation is none");
    if (!record_in_time(x, c, &st->record) || !cutoff_in_time(x, c, st) || !want_certificate(x, c, &cert, &st->record))
        return STORE_OK;
    store_result result = find_head(x, c, &head, &last, &again, st);
    if (result != STORE_OK || c->reason != PEP_OK)
        return result;
    if (again != 0)
        return acknowledge(x, c, &head, again, b, &cert);
    return rotate_head(x, c, &head, &last, b, &cert);
}

/* The admin who signed the revocation, where one did. */
static store_result find_admin(session *x, key_row *admin, bool *found, const pep_statement *st)
{
    store_result result = rows_key(x->s, admin, found, st->signer_kid);
    if (result == STORE_OK && *found && !registrar_is_admin(x->r, admin, now_s(x)))
        *found = false;
    return result;
}

store_result run_revoke(session *x, command *c)
{
    brought mine;
    const brought *b;
    key_row head;
    key_row admin;
    statement_row last = {.n = 0};
    uint64_t again;
    bool found;
    if (!want_statement(x, c, &b, "revocation", &mine))
        return STORE_OK;
    const pep_statement *st = &b->statement;
    if (st->kind != PEP_STATEMENT_REVOCATION)
        return refuse_with(c, PEP_BAD_COMMAND, "revocation is none");
    if (st->issued_s > now_s(x) + SKEW_S)
        return refuse_with(c, PEP_BAD_COMMAND, "the revocation was issued in the future");
    store_result result = find_head(x, c, &head, &last, &again, st);
    if (result == STORE_OK && c->reason == PEP_OK && again != 0)
        return answer_version(c, st->id, st->version);
    if (result == STORE_OK && c->reason == PEP_OK)
        result = find_admin(x, &admin, &found, st);
    if (result != STORE_OK || c->reason != PEP_OK)
        return result;
    pep_trust trust = trust_of(&registrar_settings(x->r)->rules);
    trust.admin_public = found ? admin.sign_public : NULL;
    pep_reason reason = advance(x, NULL, &head, &last, st, &trust);
    if (reason != PEP_OK) /* there is no new key here that could want a proof */
        return refuse(c, reason == PEP_UNPROVEN_KEY ? PEP_NOT_AUTHORIZED : reason);
    const chain_link link = link_of(b, NULL);
    c->changed = true;
    result = chain_append(x->s, &head, &link, false, x->now_us);
    return result == STORE_OK ? answer_version(c, st->id, st->version) : result;
}

/* ---- token ---- */

static bool read_token(session *x, command *c, token_row *out)
{
    const char *id;
    if (!want_id(c, &id, "id", true) || !want_kid(c, out->kid, "token") ||
        !want_number(c, &out->expires_s, "expires", true))
        return false;
    memcpy(out->id, id, strlen(id) + 1);
    if (out->expires_s > now_s(x) && out->expires_s <= now_s(x) + TOKEN_LIFE_MAX_S)
        return true;
    refuse_with(c, PEP_BAD_COMMAND, "expires is at most 366 days ahead, and not over");
    return false;
}

/* Whether the token is new, or the same again. */
static store_result judge_token(session *x, command *c, const token_row *token)
{
    token_row other = {.used = false};
    key_row head;
    bool found;
    uint64_t count;
    store_result result = rows_head(x->s, &head, &found, token->id);
    if (result == STORE_OK && found)
        return refuse(c, PEP_ID_TAKEN);
    if (result == STORE_OK)
        result = rows_token(x->s, &other, &found, token->kid);
    if (result == STORE_OK && found && (other.used || strcmp(other.id, token->id) != 0))
        return refuse(c, PEP_BAD_TOKEN);
    if (result == STORE_OK)
        result = rows_drop_unused_tokens(x->s, token->id);
    if (result == STORE_OK)
        result = rows_count_tokens(x->s, &count);
    if (result == STORE_OK && count >= TOKENS_MAX)
        return refuse(c, PEP_TOO_MANY);
    return result;
}

/* Behind the hold: on PostgreSQL another broker may have ended the key since the message was verified. */
static store_result hold_for_admin(session *x, command *c)
{
    key_row key;
    bool found;
    store_result result = hold(x);
    if (result == STORE_OK)
        result = rows_key(x->s, &key, &found, x->signer.kid);
    if (result == STORE_OK && (!found || !registrar_is_admin(x->r, &key, now_s(x))))
        return refuse(c, PEP_NOT_AUTHORIZED);
    return result;
}

store_result run_token(session *x, command *c)
{
    token_row token = {.used = false};
    if (!x->admin)
        return refuse(c, PEP_NOT_AUTHORIZED);
    if (!read_token(x, c, &token))
        return STORE_OK;
    if (registrar_settings(x->r)->rules.enroll != DIRECTORY_TOKEN)
        return refuse_with(c, PEP_BAD_COMMAND, "no tokens are taken here");
    store_result result = hold_for_admin(x, c);
    if (result == STORE_OK && c->reason == PEP_OK)
        result = judge_token(x, c, &token);
    if (result != STORE_OK || c->reason != PEP_OK)
        return result;
    c->changed = true;
    result = rows_put_token(x->s, &token);
    if (result != STORE_OK)
        return result;
    c->data = cJSON_CreateObject();
    return json_add_text(c->data, "id", token.id) ? STORE_OK : refuse(c, PEP_NO_MEMORY);
}
