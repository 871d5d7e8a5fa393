/* What is encrypted: meta, then the application's bytes. */
#include <string.h>

#include "envelope/parse.h"
#include "envelope/structures.h"
#include "envelope/text.h"

enum { META_CONTENT_TYPE = 1, META_CORRELATION = 2, META_REPLY_TOPIC = 3, META_CONTENT_CODING = 4, META_PADDING = 5 };

static bool parse_content_type(pep_reader *r, pep_meta *meta)
{
    pep_item item;
    if (!pep_read(r, &item))
        return false;
    meta->content_type = item.string;
    meta->has_content_format = item.type == ITEM_UINT;
    meta->content_format = meta->has_content_format ? item.value : 0;
    return item.type == ITEM_UINT || item.type == ITEM_TEXT;
}

static bool parse_meta_value(pep_reader *r, pep_meta *meta, uint64_t key)
{
    switch (key) {
    case META_CONTENT_TYPE:
        return parse_content_type(r, meta);
    case META_CORRELATION:
        return pep_read_bytes(r, &meta->correlation);
    case META_REPLY_TOPIC:
        return pep_read_text(r, &meta->reply_topic);
    case META_CONTENT_CODING:
        meta->has_content_coding = true;
        return pep_read_uint(r, &meta->content_coding);
    case META_PADDING:
        return pep_read_bytes(r, &meta->padding);
    default:
        return false;
    }
}

bool parse_content(pep_meta *meta, pep_view *plain, pep_view content)
{
    *meta = (pep_meta){0};
    *plain = (pep_view){0};
    pep_reader r = pep_reader_of(content);
    pep_map map;
    pep_item key;
    if (!pep_map_begin(&r, &map))
        return false;
    while (map.left > 0) {
        if (!pep_map_key(&r, &map, &key))
            return false;
        bool ok = key.type == ITEM_NINT ? pep_read_skip(&r, NESTING_MAX - 1)
                                        : key.type == ITEM_UINT && parse_meta_value(&r, meta, key.value);
        if (!ok)
            return false;
    }
    *plain = (pep_view){r.p, (size_t)(r.end - r.p)};
    return true;
}

static void write_padding(pep_writer *w, size_t n)
{
    static const uint8_t zeros[256];
    pep_write_uint(w, META_PADDING);
    pep_write_bytes_head(w, n);
    for (; n > sizeof zeros; n -= sizeof zeros)
        pep_write_raw(w, zeros, sizeof zeros);
    pep_write_raw(w, zeros, n);
}

bool write_meta(pep_writer *w, const pep_meta *meta)
{
    static const pep_meta empty;
    const pep_meta *m = meta == NULL ? &empty : meta;
    bool typed = m->content_type.p != NULL || m->has_content_format;
    size_t pairs = (size_t)typed + (m->correlation.p != NULL ? 1 : 0) + (m->reply_topic.p != NULL ? 1 : 0) +
                   (size_t)m->has_content_coding + (m->padding.n > 0 ? 1 : 0);
    pep_write_map(w, pairs);
    if (typed)
        pep_write_uint(w, META_CONTENT_TYPE);
    if (m->has_content_format)
        pep_write_uint(w, m->content_format);
    else if (typed)
        pep_write_text(w, m->content_type.p, m->content_type.n);
    if (m->correlation.p != NULL) {
        pep_write_uint(w, META_CORRELATION);
        pep_write_bytes(w, m->correlation.p, m->correlation.n);
    }
    if (m->reply_topic.p != NULL) {
        pep_write_uint(w, META_REPLY_TOPIC);
        pep_write_text(w, m->reply_topic.p, m->reply_topic.n);
    }
    if (m->has_content_coding) {
        pep_write_uint(w, META_CONTENT_CODING);
        pep_write_uint(w, m->content_coding);
    }
    if (m->padding.n > 0)
        write_padding(w, m->padding.n);
    return pep_utf8_valid(m->content_type.p, m->content_type.n) && pep_utf8_valid(m->reply_topic.p, m->reply_topic.n);
}
