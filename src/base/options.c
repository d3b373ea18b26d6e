#include <verbacast/base/options.h>

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FLAG_MAX 64
#define HELP_COLUMNS 80
#define HELP_INDENT "      "

struct vc_secret {
  pthread_mutex_t mutex;
  char *source;   // as configured: texts and @files
  char *newest;   // guarded by the mutex; NULL: not set
  char *previous; // the same; what is still taken, a comma list
};

enum source { FROM_DEFAULT, FROM_ENVIRONMENT, FROM_FLAG };

struct value {
  const struct vc_option_group *group;
  const struct vc_option *row;
  enum source source;
  char *text; // owned
};

struct vc_option_values {
  size_t n_values;
  struct value values[];
};

// --- secrets

static int equals_in_constant_time(const char *a, size_t length, const char *text, size_t size)
{
  unsigned char different = length != size || length == 0;
  for (size_t i = 0; i < size; i++) {
    different |= (unsigned char)(text[i] ^ a[length > 0 ? i % length : 0]);
  }
  return !different;
}

// Every element is compared, so that the time does not tell which one it was.
static int is_in_list(const char *list, const char *text, size_t size)
{
  int is_in = 0;
  for (const char *at = list; at != NULL;) {
    size_t length = strcspn(at, ",");
    is_in |= equals_in_constant_time(at, length, text, size);
    at = at[length] == ',' ? at + length + 1 : NULL;
  }
  return is_in;
}

int vc_secret_matches(const struct vc_secret *secret, const char *text, size_t size)
{
  if (secret == NULL) {
    return 0;
  }
  pthread_mutex_t *mutex = &((struct vc_secret *)secret)->mutex;
  pthread_mutex_lock(mutex);
  int matches = 0;
  if (secret->newest != NULL) {
    matches |= equals_in_constant_time(secret->newest, strlen(secret->newest), text, size);
  }
  if (secret->previous != NULL) {
    matches |= is_in_list(secret->previous, text, size);
  }
  pthread_mutex_unlock(mutex);
  return matches;
}

int vc_secret_is_set(const struct vc_secret *secret)
{
  return secret != NULL && secret->source != NULL;
}

static int copy_secret(const struct vc_secret *secret, int is_list, char *into, size_t size)
{
  if (!vc_secret_is_set(secret)) {
    return 0;
  }
  pthread_mutex_t *mutex = &((struct vc_secret *)secret)->mutex;
  pthread_mutex_lock(mutex);
  const char *newest = secret->newest != NULL ? secret->newest : "";
  const char *previous = is_list && secret->previous != NULL ? secret->previous : "";
  int n = snprintf(into, size, "%s%s%s", newest, previous[0] != '\0' ? "," : "", previous);
  pthread_mutex_unlock(mutex);
  return (size_t)n < size ? n : -1;
}

int vc_secret_copy(const struct vc_secret *secret, char *into, size_t size)
{
  return copy_secret(secret, 0, into, size);
}

int vc_secret_copy_list(const struct vc_secret *secret, char *into, size_t size)
{
  return copy_secret(secret, 1, into, size);
}

static char *read_secret_file(const char *path, const char *name, struct vc_error *error)
{
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    vc_error_set(error, "%s: cannot read the secret's file '%s': %s", name, path, strerror(errno));
    return NULL;
  }
  char *text = calloc(1, VC_SECRET_MAX + 1);
  size_t n = text != NULL ? fread(text, 1, VC_SECRET_MAX + 1, file) : 0;
  int trouble = ferror(file) ? errno : 0; // a directory; or half a secret was read
  fclose(file);
  if (trouble != 0) {
    free(text);
    vc_error_set(error, "%s: cannot read the secret's file '%s': %s", name, path,
                 strerror(trouble));
    return NULL;
  }
  if (text == NULL || n > VC_SECRET_MAX || memchr(text, '\0', n) != NULL) {
    free(text);
    vc_error_set(error, "%s: the secret's file '%s' is longer than %d bytes or not a text", name,
                 path, VC_SECRET_MAX);
    return NULL;
  }
  while (n > 0 && isspace((unsigned char)text[n - 1])) {
    text[--n] = '\0';
  }
  return text;
}

// Returns: an element of a list, or what the file holds that it names.
static char *read_element(const char *at, size_t size, const char *name, struct vc_error *error)
{
  char *element = strndup(at, size);
  if (element == NULL) {
    vc_error_set(error, "%s: no memory", name);
    return NULL;
  }
  if (element[0] != '@') {
    return element;
  }
  char *text = read_secret_file(element + 1, name, error);
  free(element);
  return text;
}

// Puts an element behind those that `list` holds. Returns: 0, or -1: it does not fit.
static int append_element(char list[static VC_SECRET_MAX + 2], const char *element)
{
  size_t n = strlen(list), size = strlen(element);
  if (n + size > VC_SECRET_MAX) {
    return -1;
  }
  memcpy(list + n, element, size);
  list[n + size] = ',';
  list[n + size + 1] = '\0';
  return 0;
}

static char *read_elements(const char *source, const char *name, struct vc_error *error)
{
  char *list = calloc(1, VC_SECRET_MAX + 2);
  if (list == NULL) {
    vc_error_set(error, "%s: no memory", name);
    return NULL;
  }
  int status = 0;
  for (const char *at = source; status == 0 && at != NULL;) {
    size_t size = strcspn(at, ",");
    char *element = read_element(at, size, name, error);
    status = element != NULL ? 0 : -1;
    if (element != NULL && append_element(list, element) != 0) {
      status = vc_error_set(error, "%s: the secret is longer than %d bytes", name, VC_SECRET_MAX);
    }
    free(element);
    at = at[size] == ',' ? at + size + 1 : NULL;
  }
  if (status != 0) {
    free(list);
    return NULL;
  }
  list[strlen(list) - 1] = '\0'; // the last comma
  return list;
}

// Returns: 0 the list may be put in force, or -1 and why not, without a word of it.
static int check_secret(const struct vc_option *row, const char *list, struct vc_error *error)
{
  struct vc_error why;
  if (list[0] == '\0' || list[0] == ',') {
    return vc_error_set(error, "%s: the secret is empty", row->name);
  }
  if (row->check != NULL && row->check(list, &why) != 0) {
    return vc_error_set(error, "%s: the secret %s", row->name, why.text);
  }
  return 0;
}

// Reads the secret's source anew and puts it in force.
static int secret_load(struct vc_secret *secret, const struct vc_option *row,
                       struct vc_error *error)
{
  char *text = read_elements(secret->source, row->name, error);
  if (text == NULL || check_secret(row, text, error) != 0) {
    free(text);
    return -1;
  }
  char *comma = strchr(text, ',');
  char *previous = comma != NULL ? strdup(comma + 1) : NULL;
  if (comma != NULL && previous == NULL) {
    free(text);
    return vc_error_set(error, "%s: no memory", row->name);
  }
  if (comma != NULL) {
    *comma = '\0';
  }
  pthread_mutex_lock(&secret->mutex);
  char *old_newest = secret->newest, *old_previous = secret->previous;
  secret->newest = text;
  secret->previous = previous;
  pthread_mutex_unlock(&secret->mutex);
  free(old_newest);
  free(old_previous);
  return 0;
}

static int names_a_file(const struct vc_secret *secret)
{
  return secret->source[0] == '@' || strstr(secret->source, ",@") != NULL;
}

static void secret_destroy(struct vc_secret *secret)
{
  if (secret != NULL) {
    pthread_mutex_destroy(&secret->mutex);
    free(secret->source);
    free(secret->newest);
    free(secret->previous);
    free(secret);
  }
}

static struct vc_secret *secret_create(const char *source)
{
  struct vc_secret *secret = calloc(1, sizeof *secret);
  if (secret == NULL) {
    return NULL;
  }
  pthread_mutex_init(&secret->mutex, NULL);
  if (source[0] != '\0') {
    secret->source = strdup(source);
    if (secret->source == NULL) {
      secret_destroy(secret);
      return NULL;
    }
  }
  return secret;
}

// --- names

static void print_flag(const char *name, char flag[static FLAG_MAX])
{
  size_t i = 0;
  for (; name[i] != '\0' && i < FLAG_MAX - 1; i++) {
    flag[i] = (char)(name[i] == '_' ? '-' : tolower((unsigned char)name[i]));
  }
  flag[i] = '\0';
}

void vc_option_print_flag(const struct vc_option *row, FILE *out)
{
  char flag[FLAG_MAX];
  print_flag(row->name, flag);
  fprintf(out, "--%s", flag);
}

static size_t count_rows(const struct vc_option_set *set)
{
  size_t n = 0;
  for (size_t g = 0; g < set->n_groups; g++) {
    for (const struct vc_option *row = set->groups[g].rows; row->name != NULL; row++) {
      n++;
    }
  }
  return n;
}

static struct value *find_flag(struct vc_option_values *values, const char *flag, size_t size)
{
  for (size_t i = 0; i < values->n_values; i++) {
    char own[FLAG_MAX];
    print_flag(values->values[i].row->name, own);
    if (strlen(own) == size && memcmp(own, flag, size) == 0) {
      return &values->values[i];
    }
  }
  return NULL;
}

// --- values

static int is_text_kind(enum vc_option_kind kind)
{
  return kind == VC_OPTION_TEXT || kind == VC_OPTION_HIDDEN;
}

static const struct {
  const char *suffix;
  int64_t factor;
} byte_suffixes[] = {{"GiB", INT64_C(1) << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}};

static void print_bytes(FILE *out, double value)
{
  int64_t bytes = (int64_t)value;
  for (size_t i = 0; i < sizeof byte_suffixes / sizeof *byte_suffixes; i++) {
    if (bytes > 0 && bytes % byte_suffixes[i].factor == 0) {
      fprintf(out, "%lld %s", (long long)(bytes / byte_suffixes[i].factor),
              byte_suffixes[i].suffix);
      return;
    }
  }
  fprintf(out, "%lld", (long long)bytes);
}

void vc_option_print_allowed(const struct vc_option *row, FILE *out)
{
  const char *unit = row->unit != NULL ? row->unit : "";
  const char *space = row->unit != NULL ? " " : "";
  switch (row->kind) {
  case VC_OPTION_INTEGER:
    fprintf(out, "%lld to %lld%s%s", (long long)row->min, (long long)row->max, space, unit);
    break;
  case VC_OPTION_BYTES:
    print_bytes(out, row->min);
    fputs(" to ", out);
    print_bytes(out, row->max);
    fputs(" (bytes, or with KiB, MiB, GiB)", out);
    break;
  case VC_OPTION_REAL:
    fprintf(out, "%g to %g%s%s", row->min, row->max, space, unit);
    break;
  case VC_OPTION_SWITCH:
    fputs("0 or 1", out);
    break;
  case VC_OPTION_CHOICE:
    fprintf(out, "one of %s", row->choices);
    break;
  case VC_OPTION_TEXT:
  case VC_OPTION_HIDDEN:
    fputs(row->unit != NULL ? row->unit : "text", out);
    break;
  case VC_OPTION_SECRET:
    fputs("a text or @file; new,old of these while it is rotated", out);
    break;
  }
}

// A password in a URL is between the first ':' after "//" and the last '@' before the query; and
// one that its writer put into the query, or a '%' that may hide one, is none of the log's either.
static void print_url(FILE *out, const char *text)
{
  const char *host = strstr(text, "://");
  const char *end = host != NULL ? host + 3 + strcspn(host + 3, "?#") : NULL;
  const char *at = host != NULL ? memrchr(host + 3, '@', (size_t)(end - host - 3)) : NULL;
  const char *colon = at != NULL ? memchr(host + 3, ':', (size_t)(at - host - 3)) : NULL;
  const char *rest = colon != NULL ? at : text;
  if (colon != NULL) {
    fprintf(out, "%.*s:***", (int)(colon - text), text);
  }
  int is_open = end == NULL || (strstr(end, "password") == NULL && strchr(end, '%') == NULL);
  fprintf(out, "%.*s%s", is_open ? (int)strlen(rest) : (int)(end - rest), rest,
          is_open ? "" : "?***");
}

static int refuse_value(const struct value *value, const char *why, struct vc_error *error)
{
  char flag[FLAG_MAX], *allowed = NULL, *shown = NULL;
  size_t size = 0;
  print_flag(value->row->name, flag);
  FILE *out = open_memstream(&allowed, &size);
  if (out != NULL) {
    vc_option_print_allowed(value->row, out);
    fclose(out);
  }
  out = open_memstream(&shown, &size);
  if (out != NULL) {
    print_url(out, value->row->kind == VC_OPTION_HIDDEN ? "***" : value->text);
    fclose(out);
  }
  vc_error_set(error, "%s (--%s): '%.100s' %s; allowed: %s", value->row->name, flag,
               shown != NULL ? shown : "", why, allowed != NULL ? allowed : "see --help");
  free(allowed);
  free(shown);
  return -1;
}

static int64_t factor_of(const char *suffix, int *is_known)
{
  *is_known = 1;
  for (size_t i = 0; i < sizeof byte_suffixes / sizeof *byte_suffixes; i++) {
    if (strcmp(suffix, byte_suffixes[i].suffix) == 0) {
      return byte_suffixes[i].factor;
    }
  }
  *is_known = suffix[0] == '\0';
  return 1;
}

static int set_integer(const struct value *value, void *field, struct vc_error *error)
{
  char *end;
  errno = 0;
  long long number = strtoll(value->text, &end, 10);
  if (end == value->text || isspace((unsigned char)value->text[0])) {
    return refuse_value(value, "is not a whole number", error);
  }
  if (errno == ERANGE) {
    return refuse_value(value, "is out of range", error);
  }
  if (value->row->kind == VC_OPTION_BYTES) {
    while (*end == ' ') {
      end++;
    }
    int is_known;
    int64_t factor = factor_of(end, &is_known);
    if (!is_known) {
      return refuse_value(value, "is not a number of bytes", error);
    }
    if (number > INT64_MAX / factor || number < 0) {
      return refuse_value(value, "is out of range", error);
    }
    number *= factor;
  } else if (*end != '\0') {
    return refuse_value(value, "is not a whole number", error);
  }
  if ((double)number < value->row->min || (double)number > value->row->max) {
    return refuse_value(value, "is out of range", error);
  }
  *(int64_t *)field = number;
  return 0;
}

static int set_real(const struct value *value, double *field, struct vc_error *error)
{
  char *end;
  double number = strtod(value->text, &end);
  // Decimal only: strtod knows hexadecimal numbers and names too.
  if (end == value->text || *end != '\0' || value->text[strspn(value->text, "+-.0123456789eE")] ||
      !isfinite(number)) {
    return refuse_value(value, "is not a number", error);
  }
  if (number < value->row->min || number > value->row->max) {
    return refuse_value(value, "is out of range", error);
  }
  *field = number;
  return 0;
}

static int set_choice(const struct value *value, int *field, struct vc_error *error)
{
  const char *at = value->row->choices;
  for (int i = 0; *at != '\0'; i++) {
    size_t n = strcspn(at, ",");
    if (strlen(value->text) == n && memcmp(at, value->text, n) == 0) {
      *field = i;
      return 0;
    }
    at += n + (at[n] == ',');
  }
  return refuse_value(value, "is unknown", error);
}

static int set_switch(const struct value *value, int *field, struct vc_error *error)
{
  if (strcmp(value->text, "0") != 0 && strcmp(value->text, "1") != 0) {
    return refuse_value(value, "is neither", error);
  }
  *field = value->text[0] == '1';
  return 0;
}

static int set_text(const struct value *value, const char **field, struct vc_error *error)
{
  struct vc_error why;
  if (value->row->check != NULL && value->row->check(value->text, &why) != 0) {
    return refuse_value(value, why.text, error);
  }
  *field = value->text;
  return 0;
}

static int set_secret(const struct value *value, struct vc_secret **field, struct vc_error *error)
{
  *field = secret_create(value->text);
  if (*field == NULL) {
    return vc_error_set(error, "%s: no memory", value->row->name);
  }
  return vc_secret_is_set(*field) ? secret_load(*field, value->row, error) : 0;
}

static void *field_of(const struct value *value)
{
  return (char *)value->group->target + value->row->offset;
}

static int set_field(const struct value *value, struct vc_error *error)
{
  void *field = field_of(value);
  switch (value->row->kind) {
  case VC_OPTION_INTEGER:
  case VC_OPTION_BYTES:
    return set_integer(value, field, error);
  case VC_OPTION_REAL:
    return set_real(value, field, error);
  case VC_OPTION_SWITCH:
    return set_switch(value, field, error);
  case VC_OPTION_TEXT:
  case VC_OPTION_HIDDEN:
    return set_text(value, field, error);
  case VC_OPTION_CHOICE:
    return set_choice(value, field, error);
  case VC_OPTION_SECRET:
    return set_secret(value, field, error);
  }
  return -1;
}

// --- collecting them

static int give(struct value *value, const char *text, enum source source, struct vc_error *error)
{
  char *copy = strdup(text);
  if (copy == NULL) {
    return vc_error_set(error, "no memory for the options");
  }
  free(value->text);
  value->text = copy;
  value->source = source;
  return 0;
}

static int take_defaults(struct vc_option_set *set, struct vc_error *error)
{
  size_t n = count_rows(set);
  set->values = calloc(1, sizeof *set->values + n * sizeof set->values->values[0]);
  if (set->values == NULL) {
    return vc_error_set(error, "no memory for the options");
  }
  set->values->n_values = n;
  struct value *value = set->values->values;
  for (size_t g = 0; g < set->n_groups; g++) {
    for (const struct vc_option *row = set->groups[g].rows; row->name != NULL; row++, value++) {
      value->group = &set->groups[g];
      value->row = row;
      int is_text = is_text_kind(row->kind) || row->kind == VC_OPTION_SECRET;
      const char *initial = row->initial != NULL ? row->initial : is_text ? "" : "0";
      if (give(value, initial, FROM_DEFAULT, error) != 0) {
        return -1;
      }
    }
  }
  return 0;
}

static int take_environment(struct vc_option_set *set, char *const *environment,
                            struct vc_error *error)
{
  for (; environment != NULL && *environment != NULL; environment++) {
    const char *equals = strchr(*environment, '=');
    size_t size = equals != NULL ? (size_t)(equals - *environment) : 0;
    for (size_t i = 0; size > 0 && i < set->values->n_values; i++) {
      struct value *value = &set->values->values[i];
      assert(value->row != NULL); // take_defaults has been through all
      if (strlen(value->row->name) == size && memcmp(value->row->name, *environment, size) == 0 &&
          give(value, equals + 1, FROM_ENVIRONMENT, error) != 0) {
        return -1;
      }
    }
  }
  return 0;
}

// The flag that shares the longest beginning with what was typed.
static const char *nearest_flag(const struct vc_option_values *values, const char *typed,
                                char flag[static FLAG_MAX])
{
  size_t best = 2;
  const char *name = NULL;
  for (size_t i = 0; i < values->n_values; i++) {
    size_t same = 0;
    print_flag(values->values[i].row->name, flag);
    while (flag[same] != '\0' && flag[same] == typed[same]) {
      same++;
    }
    if (same > best) {
      best = same;
      name = values->values[i].row->name;
    }
  }
  if (name == NULL) {
    return NULL;
  }
  print_flag(name, flag);
  return flag;
}

static int refuse_flag(const struct vc_option_set *set, const char *argument,
                       struct vc_error *error)
{
  char flag[FLAG_MAX];
  if (strncmp(argument, "--", 2) != 0) {
    return vc_error_set(error, "unexpected argument '%.100s': options begin with --, see --help",
                        argument);
  }
  // Without its value, which may be a secret under a misspelt name.
  int shown = (int)strcspn(argument, "=");
  shown = shown < 100 ? shown : 100;
  const char *nearest = nearest_flag(set->values, argument + 2, flag);
  if (nearest != NULL) {
    return vc_error_set(error, "unknown option '%.*s': did you mean --%s? See --help", shown,
                        argument, nearest);
  }
  return vc_error_set(error, "unknown option '%.*s': see --help for those there are", shown,
                      argument);
}

// Returns: how many of argv were used, or -1. What begins with -- is no value unless it is behind
// '=': `--stt-url --check-config` has forgotten one.
static int take_flag(struct vc_option_set *set, int left, char **argv, struct vc_error *error)
{
  const char *argument = argv[0];
  const char *equals = strchr(argument, '=');
  size_t size = equals != NULL ? (size_t)(equals - argument) : strlen(argument);
  struct value *value = size > 2 && strncmp(argument, "--", 2) == 0
                            ? find_flag(set->values, argument + 2, size - 2)
                            : NULL;
  if (value == NULL) {
    return refuse_flag(set, argument, error);
  }
  if (equals != NULL) {
    return give(value, equals + 1, FROM_FLAG, error) == 0 ? 1 : -1;
  }
  if (value->row->kind == VC_OPTION_SWITCH &&
      (left < 2 || (strcmp(argv[1], "0") != 0 && strcmp(argv[1], "1") != 0))) {
    return give(value, "1", FROM_FLAG, error) == 0 ? 1 : -1;
  }
  if (left < 2 || strncmp(argv[1], "--", 2) == 0) {
    return vc_error_set(error, "%s (%s): a value is missing after it", value->row->name, argument);
  }
  return give(value, argv[1], FROM_FLAG, error) == 0 ? 2 : -1;
}

static const char *shown_default(const struct vc_option *row)
{
  return row->initial == NULL || row->initial[0] == '\0' ? NULL : row->initial;
}

// Whole words in lines of HELP_COLUMNS; a longer word has a line of its own.
static void print_wrapped(FILE *out, const char *text)
{
  size_t column = fprintf(out, "%s", HELP_INDENT) > 0 ? strlen(HELP_INDENT) : 0;
  for (size_t n; *text != '\0'; text += n + (text[n] == ' ')) {
    n = strcspn(text, " ");
    if (column > strlen(HELP_INDENT) && column + 1 + n > HELP_COLUMNS) {
      fprintf(out, "\n%s", HELP_INDENT);
      column = strlen(HELP_INDENT);
    } else if (column > strlen(HELP_INDENT)) {
      fputc(' ', out);
      column++;
    }
    fwrite(text, 1, n, out);
    column += n;
  }
  fputc('\n', out);
}

static void print_bounds(FILE *out, const struct vc_option *row)
{
  char *text = NULL;
  size_t size;
  FILE *line = open_memstream(&text, &size);
  if (line == NULL) {
    return;
  }
  int has_unit = row->unit != NULL && !is_text_kind(row->kind) && row->kind != VC_OPTION_BYTES;
  if (shown_default(row) != NULL) {
    fprintf(line, "Default: %s%s%s. ", row->initial, has_unit ? " " : "",
            has_unit ? row->unit : "");
  }
  fputs("Allowed: ", line);
  vc_option_print_allowed(row, line);
  fputc('.', line);
  if (fclose(line) == 0) {
    print_wrapped(out, text);
  }
  free(text);
}

static void print_help(const struct vc_option_set *set, FILE *out)
{
  fprintf(out, "Usage: %s [--OPTION VALUE]...\n%s\n", set->program, set->summary);
  fprintf(out, "\nEvery option is an environment variable too; the flag wins.\n");
  for (size_t g = 0; g < set->n_groups; g++) {
    fprintf(out, "\n%s\n", set->groups[g].title);
    for (const struct vc_option *row = set->groups[g].rows; row->name != NULL; row++) {
      char flag[FLAG_MAX];
      print_flag(row->name, flag);
      fprintf(out, "  --%s  (%s)\n", flag, row->name);
      print_wrapped(out, row->help);
      print_bounds(out, row);
    }
  }
  fprintf(out, "\n  --help           prints this\n  --version        prints the version\n"
               "  --check-config   says what would run, and exits\n");
}

static enum vc_options_outcome take_arguments(struct vc_option_set *set, int argc, char **argv,
                                              FILE *out, struct vc_error *error)
{
  enum vc_options_outcome outcome = VC_OPTIONS_RUN;
  for (int i = 1; i < argc;) {
    if (strcmp(argv[i], "--help") == 0) {
      print_help(set, out);
      return VC_OPTIONS_PRINTED;
    }
    if (strcmp(argv[i], "--version") == 0) {
      fprintf(out, "%s %s\n", set->program, VC_VERSION);
      return VC_OPTIONS_PRINTED;
    }
    if (strcmp(argv[i], "--check-config") == 0) {
      outcome = VC_OPTIONS_CHECK;
      i++;
      continue;
    }
    int used = take_flag(set, argc - i, argv + i, error);
    if (used < 0) {
      return VC_OPTIONS_USAGE;
    }
    i += used;
  }
  return outcome;
}

enum vc_options_outcome vc_options_parse(struct vc_option_set *set, int argc, char **argv,
                                         char *const *environment, FILE *out,
                                         struct vc_error *error)
{
  if (take_defaults(set, error) != 0 || take_environment(set, environment, error) != 0) {
    return VC_OPTIONS_USAGE;
  }
  enum vc_options_outcome outcome = take_arguments(set, argc, argv, out, error);
  if (outcome == VC_OPTIONS_PRINTED || outcome == VC_OPTIONS_USAGE) {
    return outcome;
  }
  for (size_t i = 0; i < set->values->n_values; i++) {
    if (set_field(&set->values->values[i], error) != 0) {
      return VC_OPTIONS_USAGE;
    }
  }
  return outcome;
}

void vc_options_free(struct vc_option_set *set)
{
  if (set->values == NULL) {
    return;
  }
  for (size_t i = 0; i < set->values->n_values; i++) {
    struct value *value = &set->values->values[i];
    if (value->row != NULL && value->row->kind == VC_OPTION_SECRET) {
      struct vc_secret **field = field_of(value);
      secret_destroy(*field);
      *field = NULL;
    }
    free(value->text);
  }
  free(set->values);
  set->values = NULL;
}

int vc_options_reload_secrets(struct vc_option_set *set, struct vc_error *error)
{
  int status = 0;
  for (size_t i = 0; i < set->values->n_values; i++) {
    struct value *value = &set->values->values[i];
    if (value->row->kind == VC_OPTION_SECRET) {
      struct vc_secret *secret = *(struct vc_secret **)field_of(value);
      if (vc_secret_is_set(secret) && names_a_file(secret) &&
          secret_load(secret, value->row, error) != 0) {
        status = -1;
      }
    }
  }
  return status;
}

void vc_options_print_effective(const struct vc_option_set *set, FILE *out)
{
  static const char *const sources[] = {"default", "environment", "flag"};
  for (size_t i = 0; i < set->values->n_values; i++) {
    const struct value *value = &set->values->values[i];
    fprintf(out, "%s=", value->row->name);
    if (value->row->kind == VC_OPTION_SECRET || value->row->kind == VC_OPTION_HIDDEN) {
      fputs(value->text[0] != '\0' ? "(set)" : "(not set)", out);
    } else {
      print_url(out, value->text);
    }
    fprintf(out, " (%s)\n", sources[value->source]);
  }
}

void vc_options_print_markdown(const struct vc_option_set *set, FILE *out)
{
  fprintf(out, "## %s\n\n%s\n", set->program, set->summary);
  for (size_t g = 0; g < set->n_groups; g++) {
    fprintf(out,
            "\n### %s\n\n| environment | flag | default | allowed | meaning |\n"
            "| --- | --- | --- | --- | --- |\n",
            set->groups[g].title);
    for (const struct vc_option *row = set->groups[g].rows; row->name != NULL; row++) {
      char flag[FLAG_MAX];
      print_flag(row->name, flag);
      const char *initial = shown_default(row);
      fprintf(out, "| `%s` | `--%s` | %s%s%s | ", row->name, flag, initial != NULL ? "`" : "–",
              initial != NULL ? initial : "", initial != NULL ? "`" : "");
      vc_option_print_allowed(row, out);
      fprintf(out, " | %s |\n", row->help);
    }
  }
}
