/* Ids to bytes: short tokens are moved as sixteen bytes whatever their length, since a move of fixed size costs no decision; what lies
 * beyond a token is written over by the next one. */
#include "text/decode.h"

#include "text/vocab_body.h"

#include <string.h>

enum { MOVE = 16 };

size_t dlm_vocab_decode(const struct dlm_vocab *v, const uint32_t *ids, size_t n, uint8_t *to, size_t room, size_t *len)
{
    size_t i = 0, at = 0;
    for (; i < n && ids[i] < v->size; i++) {
        struct dlm_span s = v->spans[ids[i]];
        if (s.len <= MOVE && room - at >= MOVE) { /* the blob ends in MOVE bytes of nothing */
            memcpy(to + at, v->blob + s.at, MOVE);
        } else {
            if (s.len > room - at)
                break;
            memcpy(to + at, v->blob + s.at, s.len);
        }
        at += s.len;
    }
    *len = at;
    return i;
}
