/* Entries: a device's last statement and its certificate, as they are served. */
#include "envelope/cbor.h"
#include "pep/directory.h"

enum { ENTRY_FORMAT_VERSION = 1 };

static bool sizes_valid(const pep_entry *entry)
{
    bool certificate =
        entry->certificate.p == NULL || (entry->certificate.n > 0 && entry->certificate.n <= PEP_CERTIFICATE_BYTES_MAX);
    return entry->statement.p != NULL && entry->statement.n > 0 && entry->statement.n <= PEP_STATEMENT_BYTES_MAX &&
           certificate;
}

pep_reason pep_entry_encode(uint8_t *out, size_t *out_n, const pep_entry *entry)
{
    pep_writer w = {.p = out, .cap = PEP_ENTRY_BYTES_MAX};
    *out_n = 0;
    if (!sizes_valid(entry))
        return PEP_BAD_ARGUMENT;
    pep_write_array(&w, 3);
    pep_write_uint(&w, ENTRY_FORMAT_VERSION);
    pep_write_bytes(&w, entry->statement.p, entry->statement.n);
    if (entry->certificate.p == NULL)
        pep_write_null(&w);
    else
        pep_write_bytes(&w, entry->certificate.p, entry->certificate.n);
    *out_n = w.n;
    return w.full ? PEP_BUFFER_TOO_SMALL : PEP_OK;
}

pep_reason pep_entry_parse(pep_entry *out, const uint8_t *bytes, size_t n)
{
    pep_reader r = pep_reader_of((pep_view){bytes, n});
    uint64_t count;
    uint64_t version;
    pep_item certificate;
    *out = (pep_entry){0};
    if (n > PEP_ENTRY_BYTES_MAX || !pep_read_array(&r, &count) || count < 1 || !pep_read_uint(&r, &version))
        return PEP_MALFORMED;
    if (version != ENTRY_FORMAT_VERSION)
        return PEP_UNSUPPORTED_VERSION;
    if (count != 3 || !pep_read_bytes(&r, &out->statement) || !pep_read(&r, &certificate) || !pep_read_end(&r) ||
        (certificate.type != ITEM_BYTES && certificate.type != ITEM_NULL))
        return PEP_MALFORMED;
    out->certificate = certificate.string;
    return sizes_valid(out) ? PEP_OK : PEP_MALFORMED;
}
