/* A wall clock that is off, for one process: preloaded, it adds to CLOCK_REALTIME the whole seconds that the file named
 * by MESHKIT_TEST_CLOCK holds. The file is read at every call, so the clock can be changed while the process runs; it is
 * to be replaced by renaming, since what cannot be read leaves the offset as it was.
 *
 * The monotonic clock is left alone, as it is when a machine's wall clock is set. A wait until a moment of the wall
 * clock is given back to the kernel in the kernel's own time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic long long last;

static long long offset(void) {
    const char *path = getenv("MESHKIT_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        char text[32];
        ssize_t read_bytes = read(file, text, sizeof text - 1);
        close(file);
        if (read_bytes > 0) {
            text[read_bytes] = 0;
            atomic_store(&last, atoll(text));
        }
    }
    return atomic_load(&last);
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && is_wall(clock))
        now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}

/* Monotonic clocks begin near 0 when a machine starts: whatever is past 2001 is a wall clock's. */
static struct timespec as_the_kernel_has_it(const struct timespec *until) {
    struct timespec moment = *until;
    if (moment.tv_sec > 1000000000)
        moment.tv_sec -= offset();
    return moment;
}

typedef int (*timed_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static _Atomic(timed_wait) known;
    timed_wait real = atomic_load(&known);
    if (!real) {
        /* By version: the oldest of that name on x86-64 takes another structure. */
        real = (timed_wait)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
        if (!real)
            real = (timed_wait)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        atomic_store(&known, real);
    }
    struct timespec moment = as_the_kernel_has_it(until);
    return real(cond, mutex, &moment);
}
