/* A share that refuses calls: REFUSE="rename=EPERM flock=ENOSYS" makes these fail, every other call is the system's.
   Preloaded by tests/support/refusing_share.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct { const char *name; int number; } ERRORS[] = {
    {"EPERM", EPERM}, {"EACCES", EACCES}, {"ENOSYS", ENOSYS}, {"ENOTSUP", ENOTSUP}, {"EINVAL", EINVAL},
    {"ENOLCK", ENOLCK}, {"EXDEV", EXDEV}, {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EAGAIN", EAGAIN},
};

/* Whether a call is refused; sets errno. */
static int refused(const char *call) {
    const char *said = getenv("REFUSE");
    size_t length = strlen(call);
    while (said && *said) {
        if (!strncmp(said, call, length) && said[length] == '=') {
            const char *name = said + length + 1;
            size_t end = strcspn(name, " ");
            for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
                if (strlen(ERRORS[i].name) == end && !strncmp(ERRORS[i].name, name, end)) {
                    errno = ERRORS[i].number;
                    return 1;
                }
        }
        said = strchr(said, ' ');
        said = said ? said + 1 : NULL;
    }
    return 0;
}

#define SYSTEMS(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int flock(int file, int operation) {
    return refused("flock") ? -1 : SYSTEMS(int, "flock", int, int)(file, operation);
}
int fsync(int file) { return refused("fsync") ? -1 : SYSTEMS(int, "fsync", int)(file); }
int chmod(const char *path, mode_t mode) {
    return refused("chmod") ? -1 : SYSTEMS(int, "chmod", const char *, mode_t)(path, mode);
}
int fchmod(int file, mode_t mode) { return refused("chmod") ? -1 : SYSTEMS(int, "fchmod", int, mode_t)(file, mode); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    return refused("chmod") ? -1
                            : SYSTEMS(int, "fchmodat", int, const char *, mode_t, int)(folder, path, mode, flags);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    return refused("utime") ? -1
                            : SYSTEMS(int, "utimensat", int, const char *, const struct timespec *, int)(
                                  folder, path, times, flags);
}
int link(const char *from, const char *to) {
    return refused("link") ? -1 : SYSTEMS(int, "link", const char *, const char *)(from, to);
}
int rename(const char *from, const char *to) {
    return refused("rename") ? -1 : SYSTEMS(int, "rename", const char *, const char *)(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return refused("rename") ? -1
                             : SYSTEMS(int, "renameat", int, const char *, int, const char *)(
                                   from_folder, from, to_folder, to);
}
pid_t fork(void) { return refused("fork") ? -1 : SYSTEMS(pid_t, "fork", void)(); }
pid_t vfork(void) { return fork(); } /* the real one may not be called from a function that returns */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *given) {
    return refused("thread") ? errno
                             : SYSTEMS(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *),
                                       void *)(thread, attributes, start, given);
}
