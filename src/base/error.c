#include <verbacast/base/error.h>

#include <stdarg.h>
#include <stdio.h>

int vc_error_set(struct vc_error *error, const char *format, ...)
{
  if (error != NULL) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
  }
  return -1;
}
