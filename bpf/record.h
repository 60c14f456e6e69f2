/*
 * The record that capture.c writes and harness/capture/records.py reads. This
 * file is the only definition: Python parses the #defines and the struct.
 * Little-endian, no padding (fields are ordered by size).
 *
 * After the header come walked_len bytes of the kernel-walked path and then
 * raw_len bytes of the name as the program passed it.
 */
#define KIND_OPEN 1
#define KIND_EXEC 2
#define KIND_FORK 3
#define KIND_EXIT 4
#define KIND_PATH 5
#define KIND_SOCK 6
#define KIND_NET 7
#define KIND_ATTACH 8
#define KIND_URING 9
#define KIND_COMPAT 10
#define KINDS 16

#define FOREIGN_RULE 512    /* place of the rule for calls of another table than x86-64's */

#define FLAG_TRUNCATED 1   /* a path or a name did not fit */
#define FLAG_DETACHED 2    /* the walk ended outside the process's root */
#define FLAG_UNREADABLE 4  /* user memory could not be read */
#define FLAG_WALK_FAULT 8  /* a kernel pointer of the walk could not be read */
#define FLAG_CREATED 16    /* FMODE_CREATED */
#define FLAG_UNLINKED 32   /* the opened file has no name (any more) */
#define FLAG_OBJECT 64     /* walked is the object itself, not the base of raw */
#define FLAG_ARGS_CUT 256  /* argv did not fit: not a loss of capability */
#define FLAG_CHANGED 512   /* user memory said one thing, the kernel did another */
#define FLAG_ENTERED 1024  /* at its start, this call gave a record with WHERE_ENTRY */

/* where: role in bits 0-1 (0 harness, 1 subject, 2 tools) */
#define WHERE_ROLE 3
#define WHERE_SETUP 16     /* before the start boundary of the role */
#define WHERE_PART2 32     /* second name of a two-name operation */
#define WHERE_ENTRY 64     /* at the start of a call: its names, a NUL after each */

struct record {
  u64 time_ns;             /* CLOCK_MONOTONIC */
  u64 a0;
  u64 a1;
  u64 a2;
  s64 result;
  u32 pid;                 /* thread group, as the host numbers it */
  u32 tid;
  u32 vpid;                /* the same, in the innermost pid namespace */
  u32 vtid;
  u32 file_flags;
  u16 inode_mode;
  u16 flags;
  u16 walked_len;
  u16 raw_len;
  u16 syscall;
  u8 kind;
  u8 where;
  char comm[16];
};

/* Per kind and CPU; seen == submitted + dropped + oversized + fault. */
#define COUNT_SEEN 0
#define COUNT_SUBMITTED 1
#define COUNT_DROPPED 2    /* the ring was full */
#define COUNT_OVERSIZED 3  /* larger than a record may be */
#define COUNT_FAULT 4      /* no scratch memory, or no task to read from */
#define COUNT_TRUNCATED 5  /* submitted with FLAG_TRUNCATED */
#define COUNT_UNREADABLE 6 /* submitted with FLAG_UNREADABLE, not EFAULT */
#define COUNTS 8

/*
 * How a syscall is read: filled from harness/capture/syscalls.py. An argument
 * is given as its position from 1, 0 means that there is none.
 */
struct syscall_rule {
  u8 kind;
  u8 name;                 /* pointer to the first name */
  u8 dirfd;                /* directory it is relative to; 0: the cwd */
  u8 name2;
  u8 dirfd2;
  u8 object;               /* descriptor whose file is the object */
  u8 a0;
  u8 a1;
  u8 how;                  /* pointer to struct open_how */
  u8 address;              /* pointer to a sockaddr */
  u8 address_len;
  u8 message;              /* pointer to a msghdr (or mmsghdr) */
  u8 when;                 /* 0 always, 1 failed only; what a success is told by: */
#define BY_CWD 2           /* the new working directory */
#define BY_PEER 3          /* the unix socket at the other end */
#define BY_SELF 4          /* the unix socket itself */
  u8 a2;
  u8 constant;             /* 1: a0 is open's flags for creat */
  u8 enter;                /* 1: its names are looked at when it begins, too */
};
