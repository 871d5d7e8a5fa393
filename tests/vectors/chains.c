/* Histories of a device: statements that follow each other, and a last one that may not. */
#include <sodium.h>
#include <string.h>

#include "envelope/signed.h"
#include "tests/vectors/directory.h"

/* ---- statements that are right ---- */

typedef enum {
    NONE,
    FIRST,             /* record of KEYS_1 */
    ROTATED,           /* after FIRST: to KEYS_2, by KEYS_1 */
    ROTATED_TWICE,     /* after ROTATED: to KEYS_3, by KEYS_2 */
    ROTATED_OTHERWISE, /* after FIRST: to KEYS_3, by AUTHORITY_1 */
    RENEWED,           /* after FIRST: the same signing key, two agreement keys */
    REVOKED,
    REVOKED_BY_AUTHORITY,
    REVOKED_BY_ADMIN,
    RECOVERED, /* after REVOKED: to KEYS_2, by AUTHORITY_2 */
    OF_STRANGER,
    GOODS
} good;

static bytes goods[GOODS];
static bytes next_record;    /* of KEYS_2, after FIRST */
static bytes renewed_record; /* of KEYS_1, after FIRST */
static uint8_t first_hash[PEP_SHA256_BYTES];

static pep_head head_at(const good *at, size_t count)
{
    pep_head head = {.version = 0};
    uint8_t keys[2][PEP_SIGN_PUBLIC_BYTES];
    memcpy(keys[0], parties[AUTHORITY_1].device.sign_public, sizeof keys[0]);
    memcpy(keys[1], parties[AUTHORITY_2].device.sign_public, sizeof keys[1]);
    const pep_trust trust = {.authorities = (const uint8_t(*)[PEP_SIGN_PUBLIC_BYTES])keys,
                             .authority_count = 2,
                             .admin_public = parties[ADMIN].device.sign_public};
    for (size_t i = 0; i < count && at[i] != NONE; i++) {
        pep_statement s;
        must(pep_statement_parse(&s, goods[at[i]].p, goods[at[i]].n) == PEP_OK, "not a statement");
        must((i == 0 ? pep_head_begin(&head, &s) : pep_head_advance(&head, NULL, &s, &trust)) == PEP_OK, "no chain");
    }
    return head;
}

#define HEAD_AT(...) head_at((const good[]){__VA_ARGS__}, sizeof((const good[]){__VA_ARGS__}) / sizeof(good))

static const uint8_t *secret_of(party_name who)
{
    return parties[who].device.sign_secret;
}

static void rotate(bytes *out, const pep_head *head, const pep_device *to, party_name signer, uint64_t cutoff)
{
    uint8_t record[PEP_RECORD_BYTES_MAX];
    size_t n;
    must(pep_record_next(record, &n, to, head, ISSUED_S + head->version, NOT_AFTER_S) == PEP_OK, "no record");
    must(pep_rotation_sign(out->p, &out->n, secret_of(signer), head, record, n, cutoff) == PEP_OK, "no rotation");
}

static void revoke(bytes *out, const pep_head *head, party_name signer)
{
    must(pep_revocation_sign(out->p, &out->n, secret_of(signer), head, ISSUED_S + 5, CUTOFF_US) == PEP_OK, "no end");
}

/* KEYS_1 with another agreement key; the one before is still there. */
static pep_device renewed_device(void)
{
    pep_device d = parties[KEYS_1].device;
    pep_device fresh;
    must(pep_device_from_secrets(&fresh, DEVICE_ID, d.sign_secret, parties[KEYS_3].device.agree_secret) == PEP_OK, "");
    pep_previous_keys *keys = &fresh.previous[fresh.previous_count++];
    memcpy(keys->sign_kid, d.sign_kid, PEP_KID_BYTES);
    memcpy(keys->agree_kid, d.agree_kid, PEP_KID_BYTES);
    memcpy(keys->agree_secret, d.agree_secret, PEP_AGREE_SECRET_BYTES);
    keys->until_s = NOT_AFTER_S;
    return fresh;
}

static void make_goods(void)
{
    const pep_device *stranger = &parties[STRANGER].device;
    pep_device renewed = renewed_device();
    bytes *first = &goods[FIRST];
    must(pep_record_sign(first->p, &first->n, &parties[KEYS_1].device, ISSUED_S, NOT_AFTER_S) == PEP_OK, "unsigned");
    must(pep_record_sign(goods[OF_STRANGER].p, &goods[OF_STRANGER].n, stranger, ISSUED_S, NOT_AFTER_S) == PEP_OK, "");
    pep_head head = HEAD_AT(FIRST);
    memcpy(first_hash, head.hash, sizeof first_hash);
    must(pep_record_next(next_record.p, &next_record.n, &parties[KEYS_2].device, &head, ISSUED_S + 1, NOT_AFTER_S) ==
             PEP_OK,
         "no record");
    must(pep_record_next(renewed_record.p, &renewed_record.n, &renewed, &head, ISSUED_S + 1, NOT_AFTER_S) == PEP_OK,
         "no record");
    rotate(&goods[ROTATED], &head, &parties[KEYS_2].device, KEYS_1, CUTOFF_US);
    rotate(&goods[ROTATED_OTHERWISE], &head, &parties[KEYS_3].device, AUTHORITY_1, CUTOFF_US);
    rotate(&goods[RENEWED], &head, &renewed, KEYS_1, 0);
    revoke(&goods[REVOKED], &head, KEYS_1);
    revoke(&goods[REVOKED_BY_AUTHORITY], &head, AUTHORITY_1);
    revoke(&goods[REVOKED_BY_ADMIN], &head, ADMIN);
    head = HEAD_AT(FIRST, ROTATED);
    rotate(&goods[ROTATED_TWICE], &head, &parties[KEYS_3].device, KEYS_2, CUTOFF_US + 1);
    head = HEAD_AT(FIRST, REVOKED);
    rotate(&goods[RECOVERED], &head, &parties[KEYS_2].device, AUTHORITY_2, 0);
}

/* ---- the cases ---- */

/*
 * Slots beside the parties' ($a is the kid of KEYS_1, $b of KEYS_2, $e the stranger's): $q the hash of FIRST, $W the
 * next record, of KEYS_2. As byte strings: $R the next record, $S the renewed one, $T the first, $U the next one with a
 * signature of zeros, $V and $I records of KEYS_2 and KEYS_1 after REVOKED.
 */
typedef struct {
    const char *name;
    const char *comment;
    const char *expect; /* NULL: ok */
    good before[3];
    good last; /* or: */
    const char *typ;
    party_name signer; /* KEYS_1, unless told otherwise */
    const char *header;
    const char *payload;
    const char *whole;
} chain;

#define ROTATION        .typ = TYP_ROTATION
#define REVOCATION      .typ = TYP_REVOCATION
#define MALFORMED       .expect = "malformed"
#define ENDS            "02 50 $a 03 1b 00060a241bb1c700"
#define REVOKES_AT(cut) "a6 01 66 'pump-7' 02 02 03 1a 6553f105 04 50 $a 05 " cut " 06 58 20 $q"
#define REVOKES         REVOKES_AT("1b 00060a241bb1c700")

static const chain chains[] = {
    {.name = "first", .comment = "a record of version 1", .last = FIRST},
    {.name = "rotation",
     .comment = "to a new signing key, signed with the old one",
     .before = {FIRST},
     .last = ROTATED},
    {.name = "rotation-twice", .comment = "and once more", .before = {FIRST, ROTATED}, .last = ROTATED_TWICE},
    {.name = "rotation-by-authority",
     .comment = "where the old key is lost",
     .before = {FIRST},
     .last = ROTATED_OTHERWISE},
    {.name = "renewal", .comment = "the same signing key, a new agreement key", .before = {FIRST}, .last = RENEWED},
    {.name = "from-the-middle", .comment = "who knows nothing may begin with a rotation", .last = ROTATED},
    {.name = "from-the-middle-on", .comment = "and go on from there", .before = {ROTATED}, .last = ROTATED_TWICE},
    {.name = "revocation", .comment = "by the device itself", .before = {FIRST}, .last = REVOKED},
    {.name = "revocation-by-authority", .comment = "by an authority", .before = {FIRST}, .last = REVOKED_BY_AUTHORITY},
    {.name = "revocation-by-admin", .comment = "by an admin", .before = {FIRST}, .last = REVOKED_BY_ADMIN},
    {.name = "recovery",
     .comment = "an authority names a new key for a revoked device",
     .before = {FIRST, REVOKED},
     .last = RECOVERED},
    {.name = "revocation-cutoff-0",
     .comment = "nothing that it ever signed is valid",
     .before = {FIRST},
     REVOCATION,
     .payload = REVOKES_AT("00")},

    {.name = "other-device",
     .comment = "a record of another device",
     .expect = "wrong-id",
     .before = {FIRST},
     .last = OF_STRANGER},
    {.name = "itself", .comment = "the head again", .expect = "wrong-version", .before = {FIRST}, .last = FIRST},
    {.name = "left-out",
     .comment = "version 3 after version 1",
     .expect = "wrong-version",
     .before = {FIRST},
     .last = ROTATED_TWICE},
    {.name = "back",
     .comment = "version 2 after version 2",
     .expect = "wrong-version",
     .before = {FIRST, ROTATED},
     .last = ROTATED_OTHERWISE},
    {.name = "fork",
     .comment = "it follows another version 2",
     .expect = "broken-chain",
     .before = {FIRST, ROTATED_OTHERWISE},
     .last = ROTATED_TWICE},
    {.name = "rotation-by-new-key",
     .comment = "signed with the new key alone",
     .expect = "unproven-key",
     .before = {FIRST},
     ROTATION,
     .signer = KEYS_2,
     .payload = "a3 01 $R " ENDS},
    {.name = "rotation-by-stranger",
     .comment = "signed by nobody who may",
     .expect = "unproven-key",
     .before = {FIRST},
     ROTATION,
     .signer = STRANGER,
     .payload = "a3 01 $R " ENDS},
    {.name = "rotation-by-admin",
     .comment = "an admin revokes, and no more",
     .expect = "unproven-key",
     .before = {FIRST},
     ROTATION,
     .signer = ADMIN,
     .payload = "a3 01 $R " ENDS},
    {.name = "rotation-by-other-authority",
     .comment = "an authority that is not trusted here",
     .expect = "unproven-key",
     .before = {FIRST},
     ROTATION,
     .signer = AUTHORITY_OTHER,
     .payload = "a3 01 $R " ENDS},
    {.name = "rotation-signature",
     .comment = "the old key's kid, and the new key's signature",
     .expect = "bad-signature",
     .before = {FIRST},
     ROTATION,
     .signer = KEYS_2,
     .header = "a3 01 32 04 50 $a 10 78 18 'application/pep-rotation'",
     .payload = "a3 01 $R " ENDS},
    {.name = "rotation-inner-signature",
     .comment = "the record in it is not signed with its own key",
     .expect = "bad-signature",
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $U " ENDS},
    {.name = "rotation-ends-nothing",
     .comment = "a new signing key, and the old one does not end",
     .expect = "broken-chain",
     .before = {FIRST},
     ROTATION,
     .payload = "a1 01 $R"},
    {.name = "rotation-ends-other",
     .comment = "another key than the head's ends",
     .expect = "broken-chain",
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R 02 50 $e 03 1b 00060a241bb1c700"},
    {.name = "renewal-ends",
     .comment = "the signing key stays, and another one ends",
     .expect = "broken-chain",
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $S 02 50 $e 03 1b 00060a241bb1c700"},
    {.name = "rotation-ends-new",
     .comment = "the new key itself ends",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R 02 50 $b 03 1b 00060a241bb1c700"},
    {.name = "rotation-ends-zeros",
     .comment = "a kid of zeros is none",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R 02 50 {16:00} 03 1b 00060a241bb1c700"},
    {.name = "rotation-cutoff-0",
     .comment = "seqs begin at 1",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R 02 50 $a 03 00"},
    {.name = "rotation-cutoff-large",
     .comment = "2^53",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R 02 50 $a 03 1b 0020000000000000"},
    {.name = "rotation-no-cutoff",
     .comment = "a key ends, and it is not said where",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a2 01 $R 02 50 $a"},
    {.name = "rotation-no-kid",
     .comment = "a cutoff of nothing",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a2 01 $R 03 1b 00060a241bb1c700"},
    {.name = "rotation-first-record",
     .comment = "a rotation to a record of version 1",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a1 01 $T"},
    {.name = "rotation-unknown",
     .comment = "a fourth member",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a4 01 $R " ENDS " 04 00"},
    {.name = "rotation-trailing",
     .comment = "a byte behind its payload",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = "a3 01 $R " ENDS " 00"},
    {.name = "rotation-typ",
     .comment = "a rotation's payload under a revocation's typ",
     MALFORMED,
     .before = {FIRST},
     REVOCATION,
     .payload = "a3 01 $R " ENDS},
    {.name = "record-alone",
     .comment = "a record of version 2 without the rotation around it",
     MALFORMED,
     .before = {FIRST},
     .typ = TYP_RECORD,
     .payload = "00",
     .whole = "$W"},
    {.name = "rotation-algorithm",
     .comment = "EdDSA (-8)",
     .expect = "unsupported-algorithm",
     .before = {FIRST},
     ROTATION,
     .header = "a3 01 27 04 50 $a 10 78 18 'application/pep-rotation'",
     .payload = "a3 01 $R " ENDS},
    {.name = "revocation-typ",
     .comment = "a revocation's payload under a rotation's typ",
     MALFORMED,
     .before = {FIRST},
     ROTATION,
     .payload = REVOKES},
    {.name = "revocation-by-stranger",
     .comment = "signed by nobody who may",
     .expect = "unproven-key",
     .before = {FIRST},
     REVOCATION,
     .signer = STRANGER,
     .payload = REVOKES},
    {.name = "revocation-of-other",
     .comment = "another key than the head's",
     .expect = "broken-chain",
     .before = {FIRST},
     REVOCATION,
     .payload = "a6 01 66 'pump-7' 02 02 03 1a 6553f105 04 50 $e 05 00 06 58 20 $q"},
    {.name = "revocation-previous",
     .comment = "another hash than the head's",
     .expect = "broken-chain",
     .before = {FIRST},
     REVOCATION,
     .payload = "a6 01 66 'pump-7' 02 02 03 1a 6553f105 04 50 $a 05 00 06 58 20 {32:5a}"},
    {.name = "revocation-version-1",
     .comment = "nothing can be revoked before it is there",
     MALFORMED,
     .before = {FIRST},
     REVOCATION,
     .payload = "a6 01 66 'pump-7' 02 01 03 1a 6553f105 04 50 $a 05 00 06 58 20 $q"},
    {.name = "revocation-cutoff-large",
     .comment = "2^53",
     MALFORMED,
     .before = {FIRST},
     REVOCATION,
     .payload = REVOKES_AT("1b 0020000000000000")},
    {.name = "revocation-unprotected",
     .comment = "a header that is not signed",
     MALFORMED,
     .before = {FIRST},
     REVOCATION,
     .payload = REVOKES,
     .whole = "d2 84 $X a1 04 50 $a $Y $Z"},
    {.name = "revocation-trailing",
     .comment = "a byte behind it",
     MALFORMED,
     .before = {FIRST},
     REVOCATION,
     .payload = REVOKES,
     .whole = "d2 84 $X a0 $Y $Z 00"},
    {.name = "after-revocation-by-device",
     .comment = "a revoked key names no other",
     .expect = "revoked-signer",
     .before = {FIRST, REVOKED},
     ROTATION,
     .payload = "a1 01 $V"},
    {.name = "after-revocation-same-key",
     .comment = "what was revoked does not come back",
     .expect = "revoked-signer",
     .before = {FIRST, REVOKED},
     ROTATION,
     .signer = AUTHORITY_1,
     .payload = "a1 01 $I"},
    {.name = "after-revocation-ends",
     .comment = "the old key has ended already",
     .expect = "broken-chain",
     .before = {FIRST, REVOKED},
     ROTATION,
     .signer = AUTHORITY_1,
     .payload = "a3 01 $V " ENDS},
};

static void fill_last(bytes *out, const chain *c)
{
    static const party_name after[] = {KEYS_2, KEYS_1};
    bytes items[6] = {{.n = 0}};
    bytes damaged = next_record;
    memset(damaged.p + damaged.n - PEP_SIGNATURE_BYTES, 0, PEP_SIGNATURE_BYTES);
    slots s = {.slot = {['q'] = {first_hash, sizeof first_hash}, ['W'] = bytes_view(&next_record)}};
    append_bstr(&items[0], bytes_view(&next_record));
    append_bstr(&items[1], bytes_view(&renewed_record));
    append_bstr(&items[2], bytes_view(&goods[FIRST]));
    append_bstr(&items[3], bytes_view(&damaged));
    pep_head revoked = HEAD_AT(FIRST, REVOKED);
    for (size_t i = 0; i < 2; i++) { /* $V and $I: records of the second and the first keys, after REVOKED */
        uint8_t record[PEP_RECORD_BYTES_MAX];
        size_t n;
        must(pep_record_next(record, &n, &parties[after[i]].device, &revoked, ISSUED_S + 9, NOT_AFTER_S) == PEP_OK, "");
        append_bstr(&items[4 + i], (pep_view){record, n});
    }
    directory_slots(&s);
    for (size_t i = 0; i < 6; i++)
        s.slot[(unsigned char)"RSTUVI"[i]] = bytes_view(&items[i]);
    directory_sign(out, c->signer, c->typ, c->header, c->payload, c->whole, &s);
}

static const char *signed_by(const pep_head *before, const pep_statement *last)
{
    if (memcmp(last->signer_kid, before->sign_kid, PEP_KID_BYTES) == 0 && !before->revoked)
        return "device";
    return memcmp(last->signer_kid, parties[ADMIN].device.sign_kid, PEP_KID_BYTES) == 0 ? "admin" : "authority";
}

/* What a chain that is right ends with. */
static void emit_end(json *j, const chain *c, const bytes *last)
{
    static const char *const kinds[] = {"", "record", "rotation", "revocation"};
    pep_statement s;
    pep_head before = head_at(c->before, 3);
    must(pep_statement_parse(&s, last->p, last->n) == PEP_OK, c->name);
    json_open(j, "statement", '{');
    json_text(j, "kind", kinds[s.kind]);
    json_text(j, "id", s.id);
    json_number(j, "version", s.version);
    json_number(j, "issued_s", s.issued_s);
    json_hex(j, "hash", s.hash, sizeof s.hash);
    json_hex(j, "signer_kid", s.signer_kid, PEP_KID_BYTES);
    if (s.version > 1)
        json_hex(j, "previous", s.previous, sizeof s.previous);
    if (!sodium_is_zero(s.old_kid, sizeof s.old_kid)) {
        json_hex(j, "old_kid", s.old_kid, sizeof s.old_kid);
        json_number(j, "cutoff", s.cutoff);
    }
    if (s.kind != PEP_STATEMENT_REVOCATION) {
        json_hex(j, "sign_kid", s.record.sign_kid, PEP_KID_BYTES);
        json_number(j, "not_after_s", s.record.not_after_s);
        json_open(j, "agree_kids", '[');
        for (size_t i = 0; i < s.record.agree_count; i++)
            json_hex(j, NULL, s.record.agree[i].kid, PEP_KID_BYTES);
        json_close(j, ']');
    }
    if (c->before[0] != NONE)
        json_text(j, "signed_by", signed_by(&before, &s));
    json_close(j, '}');
}

void chains_emit(json *j)
{
    make_goods();
    for (size_t i = 0; i < COUNT(chains); i++) {
        const chain *c = &chains[i];
        bytes last = {.n = 0};
        if (c->last != NONE)
            last = goods[c->last];
        else
            fill_last(&last, c);
        json_open(j, NULL, '{');
        json_text(j, "name", c->name);
        json_text(j, "comment", c->comment);
        json_open(j, "statements", '[');
        for (size_t k = 0; k < 3 && c->before[k] != NONE; k++)
            json_hex(j, NULL, goods[c->before[k]].p, goods[c->before[k]].n);
        json_hex(j, NULL, last.p, last.n);
        json_close(j, ']');
        json_text(j, "expect", c->expect == NULL ? "ok" : c->expect);
        if (c->expect == NULL)
            emit_end(j, c, &last);
        json_close(j, '}');
    }
}
