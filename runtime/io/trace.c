/* Trace: a profile's spans one by one, in the JSON that Perfetto (ui.perfetto.dev) and chrome://tracing open: complete
   events, with times in microseconds ("Trace Event Format"). */
#include <stdarg.h>
#include <stdio.h>

#include "../base/profile.h"
#include "io.h"

enum { TEXT = 512 };

static int print(struct file_writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int print(struct file_writer *writer, const char *format, ...) {
  char text[2 * TEXT];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return file_write(writer, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/* A name within quotes: what would end them, or control characters, are question marks. */
static const char *plain(char text[TEXT], const char *name) {
  int i = 0;
  for (; name[i] && i < TEXT / 4 - 1; i++) text[i] = name[i] == '"' || name[i] == '\\' || name[i] < ' ' ? '?' : name[i];
  text[i] = '\0';
  return text;
}

static int print_event(struct file_writer *writer, const struct profile_event *event, const struct profile_entry *entry,
                       bool first) {
  const struct profile_entry *e = &entry[event->entry];
  char name[TEXT], place[TEXT];
  STATUS_TRY(print(writer, "%s\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1", first ? "" : ",",
                   plain(name, e->name), e->phase));
  STATUS_TRY(print(writer, ",\"ts\":%.3f,\"dur\":%.3f", event->start * 1e6, event->seconds * 1e6));
  if (e->place) STATUS_TRY(print(writer, ",\"args\":{\"module\":\"%s\"}", plain(place, e->place)));
  return print(writer, "}");
}

int trace_write(const char *path, const struct profile_entry *entry, const struct profile_event *event, int count) {
  struct file_writer writer;
  STATUS_TRY(file_create(&writer, path));
  int status = print(&writer, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
  for (int i = 0; i < count && status == STATUS_OK; i++) status = print_event(&writer, &event[i], entry, i == 0);
  if (status == STATUS_OK) status = print(&writer, "\n]}\n");
  if (status == STATUS_OK) return file_commit(&writer);
  file_abandon(&writer);
  return status;
}
