/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into QEMU when its memory is a private mapping of a snapshot. QEMU 7.2 insists on opening
 * the file for writing although a private mapping needs only reading; in the sandbox the file is
 * read-only, so that a guest that broke out of its emulator cannot change the memory other clones
 * are made of. Here "write" is taken back from that one path, nothing else.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

static int open_filtered(const char *path, int flags, mode_t mode)
{
    if (strcmp(path, "/m/memory") == 0 && (flags & O_ACCMODE) == O_RDWR)
        flags = (flags & ~(O_ACCMODE | O_CREAT)) | O_RDONLY;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_filtered(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_filtered(path, flags, mode);
}

int __open_2(const char *path, int flags)
{
    return open_filtered(path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return open_filtered(path, flags, 0);
}
