/* The classes of characters that the named patterns tell apart, for every code point.
 *
 * White space is the property White_Space, letters and marks are general categories. The table is generated from PCRE2, so that a
 * hand-written scanner and an expression agree; `build/tests/text_scan --write` prints it.
 */
#ifndef DLM_TEXT_CLASSES_H
#define DLM_TEXT_CLASSES_H

#include <stdint.h>

enum dlm_class {
    DLM_CLASS_OTHER,
    DLM_CLASS_UPPER,   /* Lu, Lt */
    DLM_CLASS_LOWER,   /* Ll */
    DLM_CLASS_LETTER,  /* Lm, Lo: letters without case */
    DLM_CLASS_MARK,    /* M */
    DLM_CLASS_NUMBER,  /* N */
    DLM_CLASS_SPACE,   /* White_Space but for the next */
    DLM_CLASS_NEWLINE, /* CR, LF */
    DLM_CLASSES
};

/* Two stages: the class of c is dlm_class_block[dlm_class_index[c >> 7]][c & 127]. */
extern const uint8_t dlm_class_index[0x110000 >> 7];
extern const uint8_t dlm_class_block[][128];
/* Of the Unicode that the table follows: "14.0.0". */
extern const char dlm_class_unicode[];

static inline unsigned dlm_class_of(uint32_t c)
{
    return dlm_class_block[dlm_class_index[c >> 7]][c & 127];
}

#endif
