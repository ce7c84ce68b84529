/* Moves the wall clock of the program that preloads it.

   CLOCK_JUMP_FILE names a file of eight bytes: the nanoseconds to add to the wall clock, in this machine's byte order.
   It is mapped, so whoever writes there moves the clocks of programs that run, at any moment.

   Clocks that nobody can set (monotonic, since boot, CPU time) stay as they are, and so does the kernel's own time: that
   of files, and that of waits until a moment of the wall clock. A program that waits so will wait wrongly. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000L

typedef int clock_reader(clockid_t, struct timespec *);

static const int64_t *ahead_ns;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_JUMP_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_ns, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        fprintf(stderr, "clock_jump: CLOCK_JUMP_FILE names no file that can be mapped\n");
        _exit(70);
    }
    close(file);
    ahead_ns = mapped;
}

static int kernel_clock(clockid_t clock, struct timespec *at)
{
    static clock_reader *reader;
    clock_reader *found = __atomic_load_n(&reader, __ATOMIC_RELAXED);
    if (found == NULL) {
        found = (clock_reader *)dlsym(RTLD_NEXT, "clock_gettime");
        __atomic_store_n(&reader, found, __ATOMIC_RELAXED);
    }
    return found(clock, at);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int failed = kernel_clock(clock, at);
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
    if (failed || !is_wall || ahead_ns == NULL)
        return failed;
    int64_t moved_ns = at->tv_sec * SECOND_NS + at->tv_nsec + __atomic_load_n(ahead_ns, __ATOMIC_RELAXED);
    at->tv_sec = moved_ns / SECOND_NS;
    at->tv_nsec = moved_ns % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *at, void *zone)
{
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base)
{
    if (base != TIME_UTC || clock_gettime(CLOCK_REALTIME, at))
        return 0;
    return base;
}
