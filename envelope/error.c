/* Reasons by name, errors for people, start-up. */
#include "envelope/error.h"

#include <errno.h>
#include <pwd.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    pep_reason reason;
    const char *name;
    const char *text;
} reasons[] = {
    {PEP_OK, "ok", "accepted"},
    {PEP_RESERVED_TOPIC, "reserved-topic", "a topic that only the broker's plugin may write, or $share"},
    {PEP_TOO_LARGE, "too-large", "the envelope is larger than the rule allows"},
    {PEP_EMPTY_PAYLOAD, "empty-payload", "an empty payload proves nothing about its sender"},
    {PEP_PLAIN_PAYLOAD, "plain-payload", "the payload is not an envelope"},
    {PEP_MALFORMED, "malformed", "the envelope is not encoded as version 1 demands"},
    {PEP_UNSUPPORTED_VERSION, "unsupported-version", "the envelope has a version that is not known here"},
    {PEP_UNSUPPORTED_ALGORITHM, "unsupported-algorithm", "the envelope uses an algorithm that is not known here"},
    {PEP_WRONG_TOPIC, "wrong-topic", "the envelope was signed for another topic"},
    {PEP_UNKNOWN_SIGNER, "unknown-signer", "there is no record of the signer"},
    {PEP_EXPIRED_SIGNER, "expired-signer", "the signer's record has expired"},
    {PEP_SIGNER_NOT_ALLOWED, "signer-not-allowed", "the policy does not let this device speak on this topic"},
    {PEP_UNBOUND_CLIENT, "unbound-client", "the MQTT client's name is not the signer's id"},
    {PEP_MISPLACED_FLAG, "misplaced-flag", "a will or clear flag stands on a message that is none"},
    {PEP_NOT_ENCRYPTED, "not-encrypted", "the payload is signed only, where encryption is asked for"},
    {PEP_RECORD_DENIED, "record-denied", "it asks to be recorded, where the policy denies that"},
    {PEP_NO_CLOCK, "no-clock", "its seq is a counter, where an age is asked for"},
    {PEP_FUTURE_SEQ, "future-seq", "its seq lies too far in the future"},
    {PEP_STALE, "stale", "it is older than allowed"},
    {PEP_EXPIRED, "expired", "its own expiry has passed"},
    {PEP_REPLAYED, "replayed", "its seq was seen before, or lies below what is remembered"},
    {PEP_BAD_SIGNATURE, "bad-signature", "the signature is not the signer's"},
    {PEP_RATE_LIMITED, "rate-limited", "its signature was not verified: too many from there were bad of late"},
    {PEP_REVOKED_SIGNER, "revoked-signer", "the signer's key was revoked"},
    {PEP_ROTATED_SIGNER, "rotated-signer", "the signer's key was replaced by a newer one"},
    {PEP_NO_ROOM, "no-room", "the gate has no room left to remember what it sent"},
    {PEP_RECORD_OVERFLOW, "record-overflow", "it asks to be recorded, which cannot be done at the moment"},
    {PEP_CANNOT_OPEN, "cannot-open", "it is not for this key, or was altered"},
    {PEP_BAD_ARGUMENT, "bad-argument", "a value that no envelope or file can carry"},
    {PEP_BUFFER_TOO_SMALL, "buffer-too-small", "the buffer is too small"},
    {PEP_BAD_FILE, "bad-file", "the file is of another kind, or damaged"},
    {PEP_UNSAFE_FILE, "unsafe-file", "others may read or write what must be secret"},
    {PEP_EXISTS, "exists", "the file exists and is never overwritten"},
    {PEP_CANNOT_READ, "cannot-read", "it cannot be read"},
    {PEP_CANNOT_WRITE, "cannot-write", "it cannot be written"},
    {PEP_LOCKED, "locked", "another process is using it"},
    {PEP_SEQ_AHEAD, "seq-ahead", "the clock was ahead once; this device needs a new signing key"},
    {PEP_SEQ_MIXED, "seq-mixed", "this signing key numbers the other way: by time, or by counting"},
    {PEP_NO_MEMORY, "no-memory", "out of memory"},
    {PEP_BAD_COMMAND, "bad-command", "it is not a command, or one of its fields is missing or wrong"},
    {PEP_NOT_AUTHORIZED, "not-authorized", "it is signed by nobody who may do that, or not signed at all"},
    {PEP_WRONG_AUDIENCE, "wrong-audience", "the command is for another gate"},
    {PEP_REPEATED_COMMAND, "repeated-command", "this very command was carried out before"},
    {PEP_UNKNOWN_ID, "unknown-id", "the directory has no such device"},
    {PEP_ID_TAKEN, "id-taken", "the id is, or once was, another device's"},
    {PEP_KID_TAKEN, "kid-taken", "one of the keys is, or once was, another device's"},
    {PEP_WRONG_ID, "wrong-id", "it is a record, certificate or token of another device"},
    {PEP_WRONG_VERSION, "wrong-version", "it is not the version that comes next"},
    {PEP_VERSION_WENT_BACK, "version-went-back", "it is older than what was seen before"},
    {PEP_BROKEN_CHAIN, "broken-chain", "it does not follow what it says it follows"},
    {PEP_UNPROVEN_KEY, "unproven-key", "neither the old key nor an authority signed the new one"},
    {PEP_NOT_CERTIFIED, "not-certified", "no configured authority certifies the key, or no longer"},
    {PEP_BAD_TOKEN, "bad-token", "there is no such token, or it is for another id, used or expired"},
    {PEP_CLOSED, "closed", "only the operator adds devices here"},
    {PEP_TRY_LATER, "try-later", "the store cannot be reached, or too much is waiting"},
    {PEP_STORE_FAILED, "store-failed", "the store refused: full, read-only or damaged"},
    {PEP_TOO_MANY, "too-many", "a limit of this directory is reached"},
    {PEP_NEEDS_HISTORY, "needs-history", "versions that were not seen lie between"},
};

const char *pep_reason_name(pep_reason reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].reason == reason)
            return reasons[i].name;
    return "unknown";
}

const char *pep_reason_text(pep_reason reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].reason == reason)
            return reasons[i].text;
    return "no such reason";
}

pep_reason pep_init(void)
{
    return sodium_init() < 0 ? PEP_NO_MEMORY : PEP_OK;
}

const char *pep_version(void)
{
    return PEP_VERSION;
}

uint64_t pep_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec < 0 ? 0 : (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

pep_reason pep_fail(pep_error *error, pep_reason reason, const char *format, ...)
{
    if (error == NULL)
        return reason;
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return reason;
}

pep_reason pep_fail_errno(pep_error *error, pep_reason reason, const char *doing, const char *path)
{
    int saved = errno;
    char buffer[1024];
    struct passwd entry;
    struct passwd *user = NULL;
    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user) != 0 || user == NULL)
        return pep_fail(error, reason, "cannot %s %s as uid %u: %s", doing, path, (unsigned)geteuid(), strerror(saved));
    return pep_fail(error, reason, "cannot %s %s as user %s: %s", doing, path, user->pw_name, strerror(saved));
}
