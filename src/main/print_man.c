#include "print_man.h"

#include <stdlib.h>
#include <string.h>

#define MAN_SECTION "8"
#define MAN_DATE "2026-11-26"

// Text as roff wants it: a hyphen that may be typed stays one, nothing begins a request.
static void print_text(const char *text, FILE *out)
{
  if (*text == '.' || *text == '\'') {
    fputs("\\&", out);
  }
  for (; *text != '\0'; text++) {
    switch (*text) {
    case '-':
      fputs("\\-", out);
      break;
    case '\\':
      fputs("\\e", out);
      break;
    case '\'':
      fputs("\\(aq", out);
      break;
    default:
      fputc(*text, out);
    }
  }
}

static void print_line(const char *before, const char *text, const char *after, FILE *out)
{
  fputs(before, out);
  print_text(text, out);
  fputs(after, out);
}

static void print_heading(const char *title, FILE *out)
{
  fprintf(out, ".SH %s\n", title);
}

static void print_printed(void (*print)(const struct vc_option *row, FILE *out),
                          const struct vc_option *row, FILE *out)
{
  char *text = NULL;
  size_t size;
  FILE *memory = open_memstream(&text, &size);
  if (memory != NULL) {
    print(row, memory);
    if (fclose(memory) == 0) {
      print_text(text, out);
    }
    free(text);
  }
}

static void print_option(const struct vc_option *row, FILE *out)
{
  fputs(".TP\n\\fB", out);
  print_printed(vc_option_print_flag, row, out);
  fprintf(out, "\\fR%s (\\fB", row->kind == VC_OPTION_SWITCH ? "" : " \\fIVALUE\\fR");
  print_text(row->name, out);
  fputs("\\fR)\n", out);
  print_line("", row->help, "\n", out);
  if (row->initial != NULL && row->initial[0] != '\0') {
    print_line("Default: ", row->initial, ".\n", out);
  }
  fputs("Allowed: ", out);
  print_printed(vc_option_print_allowed, row, out);
  fputs(".\n", out);
}

static void print_options(const struct vc_option_set *set, FILE *out)
{
  print_heading("OPTIONS", out);
  fputs("Every option is an environment variable too, named in parentheses; the flag wins.\n"
        "A secret is a text,\n.BI @ FILE ,\nor\n.IB NEW , OLD\nwhile it is rotated.\n",
        out);
  for (size_t g = 0; g < set->n_groups; g++) {
    fprintf(out, ".SS %s\n", set->groups[g].title);
    for (const struct vc_option *row = set->groups[g].rows; row->name != NULL; row++) {
      print_option(row, out);
    }
  }
  fputs(".SS Without a variable\n"
        ".TP\n\\fB\\-\\-help\\fR\nPrints the options.\n"
        ".TP\n\\fB\\-\\-version\\fR\nPrints the version.\n"
        ".TP\n\\fB\\-\\-check\\-config\\fR\nSays what would run and where each value came from, "
        "and exits.\n",
        out);
}

static void print_server(FILE *out)
{
  print_heading("OUTPUT", out);
  fputs("One line on standard output when the program is up:\n.BR ready\n"
        "and its addresses. The log is on standard error.\n",
        out);
  print_heading("SIGNALS", out);
  fputs(".TP\n.BR SIGTERM \", \" SIGINT\nDrain and end; a second one ends at once.\n"
        ".TP\n.B SIGHUP\nReads the files of secrets again.\n"
        ".TP\n.BR SIGUSR1 \", \" SIGUSR2\nMore and less in the log.\n",
        out);
}

static void print_measurement(FILE *out)
{
  print_heading("OUTPUT", out);
  fputs("A table on standard output when all is measured, and below it what the machine did "
        "meanwhile and what is not to be believed. Errors are on standard error. send\\-loop and "
        "gather\\-loop say one line when they are up:\n.BR ready\nand their address.\n",
        out);
  print_heading("SIGNALS", out);
  fputs(".TP\n.BR SIGTERM \", \" SIGINT \", \" SIGQUIT \", \" SIGHUP\n"
        "Ends, with all that it has started and without a table; not by a SIGHUP that was ignored "
        "at the start (nohup). send\\-loop and gather\\-loop end with 0 by the first two.\n",
        out);
}

static void print_status(const struct man_page *page, FILE *out)
{
  print_heading("EXIT STATUS", out);
  fputs(".TP\n.B 0\nAll is well.\n.TP\n.B 1\n", out);
  fputs(page->is_server ? "The program failed; the last line of the log says why.\n"
                        : "The program failed, or the figures are not to be believed; the last "
                          "line says why.\n",
        out);
  fputs(".TP\n.B 2\nAn option is wrong; the message names it, its value and what is allowed.\n",
        out);
}

static void print_files(const struct man_page *page, FILE *out)
{
  print_heading("FILES", out);
  for (const char *const *row = page->file_rows; *row != NULL; row += 2) {
    print_line(".TP\n.I ", row[0], "\n", out);
    print_line("", row[1], "\n", out);
  }
}

void print_man(const struct man_page *page, FILE *out)
{
  const char *program = page->set->program;
  fputs(".\\\" Made from the option tables by print-docs.\n", out);
  print_line(".TH ", program, " " MAN_SECTION " " MAN_DATE " Verbacast\n", out);
  print_heading("NAME", out);
  print_line("", program, " \\- ", out);
  print_line("", page->name, "\n", out);
  print_heading("SYNOPSIS", out);
  print_line(".B ", program, "\n", out);
  if (page->argument != NULL) {
    print_line(".I ", page->argument, "\n", out);
  }
  fputs(".RB [ \\-\\-\\fIOPTION\\fR\n.IR VALUE ]...\n", out);
  print_heading("DESCRIPTION", out);
  for (const char *const *text = page->about; *text != NULL; text++) {
    print_line(text == page->about ? "" : ".PP\n", *text, "\n", out);
  }
  print_options(page->set, out);
  page->is_server ? print_server(out) : print_measurement(out);
  print_status(page, out);
  if (*page->file_rows != NULL) {
    print_files(page, out);
  }
  print_heading("EXAMPLE", out);
  print_line(".EX\n", page->example, "\n.EE\n", out);
  print_heading("SEE ALSO", out);
  print_line(".BR ", page->see_also, " (" MAN_SECTION ")\n", out);
}
