#include "wording.h"

#include <ctype.h>
#include <string.h>

#define LETTERS_MAX 32 // of a word; what is behind does not count
#define PHRASE_MAX 8
#define TIMES 4
#define CIRCLE_WORDS 8

// Costs of an alignment: a word more or less, two words that share no letter.
#define SKIP 60
#define CHANGE 72
// Two fifths of the words may be other ones, and half a word where sound was cut.
#define ALIKE(n_words) ((n_words)*SKIP * 2 / 5 + SKIP / 2)

struct letters {
  size_t at, end; // in the text
  size_t size;
  char letter[LETTERS_MAX];
};

static int is_letter(char c)
{
  return isalnum((unsigned char)c) || c == '\'' || (unsigned char)c >= 0x80;
}

// Returns: the number of words; more than WORDING_WORDS_MAX: there are too many.
static size_t split(const char *text, struct letters words[WORDING_WORDS_MAX])
{
  size_t n = 0, at = 0;
  for (;;) {
    while (text[at] != '\0' && !is_letter(text[at])) {
      at++;
    }
    if (text[at] == '\0' || n == WORDING_WORDS_MAX) {
      return text[at] == '\0' ? n : n + 1;
    }
    struct letters *word = &words[n++];
    word->at = at;
    word->size = 0;
    for (; is_letter(text[at]); at++) {
      if (word->size < LETTERS_MAX) {
        word->letter[word->size++] = (char)tolower((unsigned char)text[at]);
      }
    }
    word->end = at;
  }
}

static int is_same(const struct letters *a, const struct letters *b)
{
  return a->size == b->size && memcmp(a->letter, b->letter, a->size) == 0;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
  unsigned ab = a < b ? a : b;
  return ab < c ? ab : c;
}

// How many letters differ (Levenshtein).
static unsigned distance(const struct letters *a, const struct letters *b)
{
  unsigned row[LETTERS_MAX + 1];
  for (size_t j = 0; j <= b->size; j++) {
    row[j] = (unsigned)j;
  }
  for (size_t i = 1; i <= a->size; i++) {
    unsigned diagonal = row[0];
    row[0] = (unsigned)i;
    for (size_t j = 1; j <= b->size; j++) {
      unsigned above = row[j];
      unsigned change = diagonal + (a->letter[i - 1] != b->letter[j - 1]);
      row[j] = least(above + 1, row[j - 1] + 1, change);
      diagonal = above;
    }
  }
  return row[b->size];
}

static unsigned change_cost(const struct letters *a, const struct letters *b)
{
  size_t longer = a->size > b->size ? a->size : b->size;
  return (unsigned)(CHANGE * distance(a, b) / longer);
}

// The last row of the alignment of all of `told` with the first j words of `heard`.
static void align(const struct letters *told, size_t n_told, const struct letters *heard,
                  size_t n_heard, unsigned row[WORDING_WORDS_MAX + 1])
{
  for (size_t j = 0; j <= n_heard; j++) {
    row[j] = (unsigned)j * SKIP;
  }
  for (size_t i = 1; i <= n_told; i++) {
    unsigned diagonal = row[0];
    row[0] = (unsigned)i * SKIP;
    for (size_t j = 1; j <= n_heard; j++) {
      unsigned above = row[j];
      unsigned change = diagonal + change_cost(&told[i - 1], &heard[j - 1]);
      row[j] = least(above + SKIP, row[j - 1] + SKIP, change);
      diagonal = above;
    }
  }
}

int wording_after(const char *told, const char *heard, size_t *offset)
{
  struct letters told_words[WORDING_WORDS_MAX], heard_words[WORDING_WORDS_MAX];
  unsigned row[WORDING_WORDS_MAX + 1];
  size_t n_told = split(told, told_words);
  size_t n_heard = split(heard, heard_words);
  if (n_told > WORDING_WORDS_MAX || n_heard > WORDING_WORDS_MAX) {
    return 1;
  }
  align(told_words, n_told, heard_words, n_heard, row);
  size_t best = 0;
  for (size_t j = 1; j <= n_heard; j++) {
    best = row[j] < row[best] ? j : best;
  }
  if (row[best] > ALIKE(n_told)) {
    return 1;
  }
  *offset = best < n_heard ? heard_words[best].at : strlen(heard);
  return 0;
}

static int goes_round(const struct letters *words, size_t n, size_t phrase,
                      struct wording_circle *circle)
{
  size_t wanted = phrase * TIMES > CIRCLE_WORDS ? phrase * TIMES : CIRCLE_WORDS;
  size_t run = phrase; // words in a row that a phrase earlier were the same, and the first phrase
  int is_found = 0;
  for (size_t i = phrase; i < n && (!is_found || run >= wanted); i++) {
    run = is_same(&words[i], &words[i - phrase]) ? run + 1 : phrase;
    if (run >= wanted) {
      circle->end = is_found ? circle->end : words[i].end;
      circle->left = words[i].end;
      is_found = 1;
    }
  }
  return is_found;
}

int wording_is_circular(const char *text, struct wording_circle *circle)
{
  struct letters words[WORDING_WORDS_MAX];
  size_t n = split(text, words);
  n = n < WORDING_WORDS_MAX ? n : WORDING_WORDS_MAX;
  for (size_t phrase = 1; phrase <= PHRASE_MAX; phrase++) {
    if (goes_round(words, n, phrase, circle)) {
      return 1;
    }
  }
  return 0;
}
