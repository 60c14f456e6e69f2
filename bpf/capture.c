/*
 * Kernel witness: what the processes of one cgroup v2 slice do.
 *
 * System calls at their exit (raw or classic tracepoint: harness/capture/hooks.py),
 * raw tracepoints sched_process_exec/fork/exit and cgroup_attach_task, and cgroup
 * hooks connect/sendmsg/bind for inet, one for each role. Compiled by bcc.
 *
 * No kernel struct type is used: headers may belong to another kernel. Every
 * offset (OFF_*) comes from the BTF of the running kernel as a #define.
 * Cost and caveats: README.md beside this file.
 */
#include <uapi/linux/ptrace.h>
#include <uapi/linux/bpf.h>
#include "record.h"

#define HDR sizeof(struct record)
#define WMAX 4096
#define RMAX 4096
#define ARGV_MAX 4095
#define AT_CWD (-100)
/*
 * Open flags that a file does not keep, or keeps otherwise: O_CREAT, O_EXCL,
 * O_NOCTTY, O_TRUNC, O_DSYNC, O_LARGEFILE, O_CLOEXEC (include/uapi/asm-generic/fcntl.h).
 */
#define OPEN_ONCE (0100 | 0200 | 0400 | 01000 | 010000 | 0100000 | 02000000)

/*
 * The record is built in map memory, not on the stack: what the verifier
 * cannot know it cannot branch on, and the walk is verified once.
 */
struct scratch {
  struct record r;
  u64 path;                /* struct path to walk, 0: none */
  u64 regs;                /* struct pt_regs of the call */
  u64 off;                 /* where the walked path starts */
  u64 raw_len;
  char pad[HDR];
  char walked[WMAX];       /* right-aligned: the header goes before it */
  char raw[2 * RMAX];      /* directly behind it */
  char tail[HDR + WMAX];   /* the verifier does not relate offset and size */
};

/*
 * One slot for each program that builds records in it, with its tail calls, and
 * CPU. The kernel runs no program twice at a time on a CPU, so nobody else can
 * be in the slot, preempted or not; an event that it skips for that is counted.
 */
#define SLOT_CALL 0
#define SLOT_EXEC 1
#define SLOT_ATTACH 2
#define SLOT_ENTER 3
#define SLOTS 4

BPF_PERCPU_ARRAY(scratches, struct scratch, SLOTS);
BPF_PERCPU_ARRAY(counters, u64, KINDS * COUNTS);
BPF_ARRAY(rules, struct syscall_rule, FOREIGN_RULE + 1); /* by syscall number */
BPF_CGROUP_ARRAY(slice, 3);          /* 0 the run, 1 subject, 2 tools */
BPF_ARRAY(started, u32, 4);          /* per role: start boundary passed */
BPF_TABLE("lru_hash", u32, u32, members, 16384); /* tgid -> role */
BPF_RINGBUF_OUTPUT(ring, RING_PAGES);
/* The walk is a program of its own: inlined, the verifier would not get through. */
BPF_PROG_ARRAY(call_programs, 2);    /* of the type of the hook at sys_exit */
#define FINISH 0
#define SECOND 1
BPF_PROG_ARRAY(exec_programs, 1);
#define FINISH_EXEC 0

static __always_inline u64 rd8(u64 base, u64 off) {
  u64 v = 0;
  bpf_probe_read_kernel(&v, 8, (void *)(base + off));
  return v;
}

static __always_inline u32 rd4(u64 base, u64 off) {
  u32 v = 0;
  bpf_probe_read_kernel(&v, 4, (void *)(base + off));
  return v;
}

static __always_inline u16 rd2(u64 base, u64 off) {
  u16 v = 0;
  bpf_probe_read_kernel(&v, 2, (void *)(base + off));
  return v;
}

/*
 * Nothing reads user memory but these three. A read that fails is marked on the
 * record: what is told, or whether it is told, hung on it.
 */
static __always_inline long from_user(struct record *r, void *to, u64 size, u64 from) {
  long failed = bpf_probe_read_user(to, size, (void *)from);
  if (failed) r->flags |= FLAG_UNREADABLE;
  return failed;
}

static __always_inline long string_from_user(struct record *r, char *to, u64 from) {
  long size = bpf_probe_read_user_str(to, RMAX, (void *)from);
  if (size <= 0) r->flags |= FLAG_UNREADABLE;
  if (size >= RMAX) r->flags |= FLAG_TRUNCATED;
  return size;
}

/* Sends on connected sockets name nobody; one that cannot be read is looked at. */
static __always_inline int names_nobody(u64 message) {
  u64 name = 0;
  if (bpf_probe_read_user(&name, 8, (void *)message)) return 0;
  return !name;
}

static __always_inline int in_slice(void) {
  return slice.check_current_task(0) == 1;
}

static __always_inline u32 current_role(void) {
  if (slice.check_current_task(1) == 1) return 1;
  if (slice.check_current_task(2) == 1) return 2;
  return 0;
}

static __always_inline void count(u32 kind, u32 what) {
  u32 i = (kind & (KINDS - 1)) * COUNTS + what;
  u64 *v = counters.lookup(&i);
  if (v) __sync_fetch_and_add(v, 1); /* cgroup hooks can be preempted */
}

static __always_inline struct scratch *begin(u32 kind, u32 slot) {
  count(kind, COUNT_SEEN);
  struct scratch *s = scratches.lookup(&slot);
  if (!s) {
    count(kind, COUNT_FAULT);
    return 0;
  }
  s->path = 0;
  s->off = WMAX;
  s->raw_len = 0;
  return s;
}

static __always_inline u32 number_in_namespace(u64 pid, u32 level) {
  u64 at = OFF_pid__numbers + (u64)(level & 31) * SIZE_upid + OFF_upid__nr;
  return rd4(pid, at);
}

/* Who, where, when. Returns the pid namespace level. */
static __always_inline u32 fill(struct record *r, u32 kind, u64 task) {
  __builtin_memset(r, 0, sizeof(*r));
  r->time_ns = bpf_ktime_get_ns();
  r->kind = kind;
  u64 id = bpf_get_current_pid_tgid();
  r->pid = id >> 32;
  r->tid = id;
  bpf_get_current_comm(r->comm, 16);
  u64 pid = rd8(task, OFF_task_struct__thread_pid);
  u32 level = rd4(pid, OFF_pid__level);
  r->vtid = number_in_namespace(pid, level);
  u64 leader = rd8(task, OFF_task_struct__group_leader);
  u64 leader_pid = rd8(leader, OFF_task_struct__thread_pid);
  r->vpid = number_in_namespace(leader_pid, level);
  return level;
}

static __always_inline void place(struct record *r, u32 role) {
  u32 *passed = started.lookup(&role);
  r->where = role;
  if (role && passed && !*passed) r->where |= WHERE_SETUP;
}

/* Write the path of s->path right-aligned and say in s->off where it starts. */
static __always_inline void walk(struct scratch *s, u64 task) {
  u64 fs = rd8(task, OFF_task_struct__fs);
  u64 root_mnt = rd8(fs, OFF_fs_struct__root);
  u64 root = rd8(fs, OFF_fs_struct__root + 8);
  u64 mnt = rd8(s->path, 0), dentry = rd8(s->path, 8);
  u16 *flags = &s->r.flags;
  u32 off = WMAX;
  int done = 0;
  u64 mnt_root = rd8(mnt, OFF_vfsmount__mnt_root);
  for (int i = 0; i < MAX_DEPTH; i++) {
    if (dentry == root && mnt == root_mnt) { done = 1; break; }
    u64 block[3];  /* d_parent, d_name.hash_len, d_name.name: contiguous */
    if (bpf_probe_read_kernel(block, 24,
                              (void *)(dentry + OFF_dentry__d_parent))) {
      *flags |= FLAG_WALK_FAULT;
      done = 1;
      break;
    }
    if (dentry == mnt_root || block[0] == dentry) {
      u64 m = mnt - OFF_mount__mnt, parent = rd8(m, OFF_mount__mnt_parent);
      if (dentry != mnt_root || parent == m || !parent) {
        *flags |= FLAG_DETACHED;
        done = 1;
        break;
      }
      dentry = rd8(m, OFF_mount__mnt_mountpoint);
      mnt = parent + OFF_mount__mnt;
      mnt_root = rd8(mnt, OFF_vfsmount__mnt_root);
      continue;
    }
    u32 len = (block[1] >> 32) & 0xff;
    if (off < len + 1) { *flags |= FLAG_TRUNCATED; done = 1; break; }
    off -= len + 1;
    off &= WMAX - 1;
    s->walked[off] = '/';
    bpf_probe_read_kernel(&s->walked[(off + 1) & (WMAX - 1)], len,
                          (void *)block[2]);
    dentry = block[0];
  }
  if (!done) *flags |= FLAG_TRUNCATED;
  if (off == WMAX) {
    off = WMAX - 1;
    s->walked[off] = '/';
  }
  s->off = off;
}

static __always_inline u64 file_of(u64 task, u32 fd) {
  u64 files = rd8(task, OFF_task_struct__files);
  u64 table = rd8(files, OFF_files_struct__fdt);
  if (fd >= rd4(table, OFF_fdtable__max_fds)) return 0;
  return rd8(rd8(table, OFF_fdtable__fd), (u64)fd * 8);
}

/*
 * One contiguous record: header, walked[off..WMAX), raw[0..raw_len). 64-bit
 * and masked, because the verifier forgets the bounds of narrower values.
 */
static __always_inline void submit(struct scratch *s) {
  struct record *r = &s->r;
  u32 kind = r->kind;
  u64 off = s->off & (2 * WMAX - 1), raw_len = s->raw_len & (2 * RMAX - 1);
  if (off > WMAX) {
    count(kind, COUNT_OVERSIZED);
    return;
  }
  r->walked_len = WMAX - off;
  r->raw_len = raw_len;
  struct record *at = (struct record *)&s->pad[off];
  __builtin_memcpy(at, r, HDR);
  u64 size = HDR + (WMAX - off) + raw_len;
  if (ring.ringbuf_output(at, size, 1 /* BPF_RB_NO_WAKEUP */)) {
    count(kind, COUNT_DROPPED);
    return;
  }
  count(kind, COUNT_SUBMITTED);
  if (r->flags & FLAG_TRUNCATED) count(kind, COUNT_TRUNCATED);
  /* Of a call that has just begun, nobody knows yet whether it can read them. */
  if ((r->flags & FLAG_UNREADABLE) && r->result != -14 /* EFAULT */ &&
      !(r->where & WHERE_ENTRY))
    count(kind, COUNT_UNREADABLE);
}

/* The same for a record of known size that is on the stack. */
static __always_inline void give(struct record *r, u64 size) {
  if (ring.ringbuf_output(r, size, 1 /* BPF_RB_NO_WAKEUP */))
    count(r->kind, COUNT_DROPPED);
  else
    count(r->kind, COUNT_SUBMITTED);
}

static __always_inline u64 argument(u64 regs, u32 position) {
  u64 off = OFF_pt_regs__di;
  switch (position) {
    case 2: off = OFF_pt_regs__si; break;
    case 3: off = OFF_pt_regs__dx; break;
    case 4: off = OFF_pt_regs__r10; break;
    case 5: off = OFF_pt_regs__r8; break;
    case 6: off = OFF_pt_regs__r9; break;
  }
  return position ? rd8(regs, off) : 0;
}

static __always_inline void read_name(struct scratch *s, u64 user) {
  /* Some calls take no name and mean the descriptor (utimensat). */
  if (!user && s->r.result >= 0) return;
  long n = string_from_user(&s->r, s->raw, user);
  if (n > 0) s->raw_len = (u32)(n - 1) & (RMAX - 1);
}

/* The struct path of a descriptor's file, 0 if it is not open. */
static __always_inline u64 path_of(struct scratch *s, u64 task, u32 fd) {
  u64 file = file_of(task, fd);
  s->r.flags |= FLAG_OBJECT;
  return file ? file + OFF_file__f_path : 0;
}

static __always_inline void opened(struct scratch *s, u64 task, u32 fd) {
  struct record *r = &s->r;
  u64 file = file_of(task, fd);
  u64 path = file + OFF_file__f_path, dentry = rd8(path, 8);
  r->flags |= FLAG_OBJECT;
  r->file_flags = rd4(file, OFF_file__f_flags);
  r->inode_mode = rd2(rd8(file, OFF_file__f_inode), OFF_inode__i_mode);
  if (rd4(file, OFF_file__f_mode) & (1u << 20)) r->flags |= FLAG_CREATED;
  /* As d_unlinked(): a root is hashed nowhere, and is its own parent. */
  if (!rd8(dentry, OFF_dentry__d_hash_pprev) &&
      rd8(dentry, OFF_dentry__d_parent) != dentry)
    r->flags |= FLAG_UNLINKED;
  s->path = path;
}

/* What openat2 was asked for lies in user memory; the file has what it got. */
static __always_inline void kept_flags(struct record *r) {
  u64 kept = r->file_flags & ~OPEN_ONCE;
  if ((r->a0 & ~(u64)OPEN_ONCE) != kept) r->flags |= FLAG_CHANGED;
  r->a0 = (r->a0 & OPEN_ONCE) | kept;
}

/* A name, and the directory it starts from if it is relative. */
static __always_inline void named(struct scratch *s, u64 task, u64 name,
                                  u32 dirfd, u64 regs) {
  read_name(s, name);
  if (s->raw_len && s->raw[0] == '/') return;
  s32 fd = dirfd ? (s32)argument(regs, dirfd) : AT_CWD;
  u64 file = fd == AT_CWD ? 0 : file_of(task, (u32)fd);
  if (fd == AT_CWD) s->path = rd8(task, OFF_task_struct__fs) + OFF_fs_struct__pwd;
  else if (file) s->path = file + OFF_file__f_path;
}

static __always_inline void read_address(struct scratch *s, u64 regs,
                                         struct syscall_rule *rule) {
  u64 at = argument(regs, rule->address);
  u32 len = argument(regs, rule->address_len);
  if (rule->message) {
    u64 head[2] = {};  /* msg_name, msg_namelen */
    if (from_user(&s->r, head, 16, argument(regs, rule->message))) return;
    at = head[0];
    len = (u32)head[1];
  }
  s->r.a1 = len;
  if (len > 128) len = 128;
  asm volatile("" : "+r"(len));
  len &= 255;
  if (!from_user(&s->r, s->raw, len, at)) s->raw_len = len;
}

/*
 * The file of a unix socket that was connected to or bound, or its abstract name,
 * as the kernel has it. Other sockets have cgroup hooks.
 */
static __always_inline void unix_name(struct scratch *s, u64 task, u32 fd, u32 by) {
  u64 file = file_of(task, fd);
  u16 mode = rd2(rd8(file, OFF_file__f_inode), OFF_inode__i_mode);
  if ((mode & 0170000) != 0140000) return;
  u64 sk = rd8(rd8(file, OFF_file__private_data), OFF_socket__sk);
  if (rd2(sk, OFF_sock____sk_common_skc_family) != 1 /* AF_UNIX */) return;
  if (by == BY_PEER) sk = rd8(sk, OFF_unix_sock__peer);
  u64 address = sk ? rd8(sk, OFF_unix_sock__addr) : 0;
  if (!address) return;
  if (rd8(sk, OFF_unix_sock__path + 8)) {
    s->path = sk + OFF_unix_sock__path;
    s->r.flags |= FLAG_OBJECT;
    return;
  }
  u32 len = rd4(address, OFF_unix_address__len);
  if (len > 110) len = 110; /* struct sockaddr_un */
  asm volatile("" : "+r"(len));
  len &= 127;
  if (!bpf_probe_read_kernel(s->raw, len, (void *)(address + OFF_unix_address__name)))
    s->raw_len = len;
}

/* Record one name (part 0 or 1) of a system call into the scratch memory. */
static __always_inline struct scratch *prepare(u64 regs, s64 ret,
                                               struct syscall_rule *rule, u32 nr,
                                               u32 part) {
  u64 task = bpf_get_current_task();
  u32 kind = rule->kind;
  struct scratch *s = begin(kind, SLOT_CALL);
  if (!s) return 0;
  s->regs = regs;
  struct record *r = &s->r;
  fill(r, kind, task);
  place(r, current_role());
  if (part) r->where |= WHERE_PART2;
  if (rule->enter) r->flags |= FLAG_ENTERED;
  r->syscall = nr;
  r->result = ret;
  r->a0 = rule->constant ? 01101 : argument(regs, rule->a0);
  r->a1 = argument(regs, rule->a1);
  r->a2 = argument(regs, rule->a2);
  if (rule->how) from_user(r, &r->a0, 24, argument(regs, rule->how));
  if (kind == KIND_OPEN && ret >= 0) {
    opened(s, task, ret);
    if (rule->how) kept_flags(r);
  } else if (rule->object)
    s->path = path_of(s, task, argument(regs, rule->object));
  else if (rule->message || rule->address) {
    read_address(s, regs, rule);
    if (s->raw_len > 2 && s->raw[0] == 1 /* AF_UNIX */ && s->raw[2] && s->raw[2] != '/')
      s->path = rd8(task, OFF_task_struct__fs) + OFF_fs_struct__pwd;
    /* Two bytes: the kernel picks a name, at random. */
    if (rule->when >= BY_PEER && !ret && r->a1 > 2)
      unix_name(s, task, r->a0, rule->when);
  } else if (rule->when == BY_CWD && ret >= 0) {
    s->path = rd8(task, OFF_task_struct__fs) + OFF_fs_struct__pwd;
    r->flags |= FLAG_OBJECT;
  } else if (rule->name)
    named(s, task, argument(regs, part ? rule->name2 : rule->name),
          part ? rule->dirfd2 : rule->dirfd, regs);
  else if (rule->dirfd)
    s->path = path_of(s, task, argument(regs, rule->dirfd));
  return s;
}

/* Append a name and its NUL to s->raw. */
static __always_inline void add_name(struct scratch *s, u64 user) {
  u64 at = s->raw_len & (2 * RMAX - 1);
  if (!user) return;
  long n = string_from_user(&s->r, &s->raw[at], user);
  if (n > 0) s->raw_len = at + (n & (2 * RMAX - 1));
}

/*
 * A call that takes names has begun. What they say now, and what they say when
 * it returns, must be the same: otherwise nobody knows what the kernel read.
 */
int sys_enter(void *ctx) {
  if (!in_slice()) return 0;
  u64 task = bpf_get_current_task();
  u64 regs = (u64)bpf_task_pt_regs(bpf_get_current_task_btf());
  u32 nr = rd8(regs, OFF_pt_regs__orig_ax);
  if (rd4(task, OFF_task_struct__thread_info_status) & 2) return 0;
  struct syscall_rule *rule = rules.lookup(&nr);
  if (!rule || !rule->enter) return 0;
  struct scratch *s = begin(rule->kind, SLOT_ENTER);
  if (!s) return 0;
  struct record *r = &s->r;
  fill(r, rule->kind, task);
  place(r, current_role());
  r->where |= WHERE_ENTRY;
  r->syscall = nr;
  if (rule->how) from_user(r, &r->a0, 24, argument(regs, rule->how));
  add_name(s, argument(regs, rule->name));
  if (rule->name2) add_name(s, argument(regs, rule->name2));
  submit(s);
  return 0;
}

static __always_inline int returned(void *ctx, u64 regs, s64 ret) {
  u32 nr = rd8(regs, OFF_pt_regs__orig_ax);
  u32 status = rd4(bpf_get_current_task(), OFF_task_struct__thread_info_status);
  /* TS_COMPAT, or the x32 bit: a foreign syscall table. -1 is sigreturn. */
  u32 at = status & 2 || (nr >> 30) == 1 ? FOREIGN_RULE : nr;
  struct syscall_rule *rule = rules.lookup(&at);
  if (!rule || !rule->kind) return 0;
  if (rule->when == 1 && ret >= 0) return 0;
  if (rule->message && names_nobody(argument(regs, rule->message))) return 0;
  if (rule->address && !argument(regs, rule->address)) return 0;
  if (prepare(regs, ret, rule, nr, 0)) {
    call_programs.call(ctx, FINISH);
    count(rule->kind, COUNT_FAULT);
  }
  return 0;
}

/* Where it cannot be preempted. */
int sys_exit(struct bpf_raw_tracepoint_args *ctx) {
  if (!in_slice()) return 0;
  return returned(ctx, ctx->args[0], ctx->args[1]);
}

/* Everywhere else. A classic tracepoint has no registers among its arguments. */
int sys_exit_classic(void *ctx) {
  if (!in_slice()) return 0;
  u64 regs = (u64)bpf_task_pt_regs(bpf_get_current_task_btf());
  return returned(ctx, regs, (s64)rd8(regs, OFF_pt_regs__ax));
}

/* The second name of rename, link, symlink. */
int second(void *ctx) {
  u32 slot = SLOT_CALL;
  struct scratch *s = scratches.lookup(&slot);
  if (!s) return 0;
  u32 nr = s->r.syscall;
  struct syscall_rule *rule = rules.lookup(&nr);
  if (!rule) return 0;
  if (prepare(s->regs, s->r.result, rule, nr, 1)) {
    call_programs.call(ctx, FINISH);
    count(rule->kind, COUNT_FAULT);
  }
  return 0;
}

/* Walk s->path, submit the record, go on with the second name if any. */
int finish(void *ctx) {
  u32 slot = SLOT_CALL;
  struct scratch *s = scratches.lookup(&slot);
  if (!s) return 0;
  if (s->path) walk(s, bpf_get_current_task());
  submit(s);
  u32 nr = s->r.syscall;
  if (s->r.kind != KIND_PATH || s->r.where & WHERE_PART2) return 0;
  struct syscall_rule *rule = rules.lookup(&nr);
  if (rule && rule->name2) {
    call_programs.call(ctx, SECOND);
    count(KIND_PATH, COUNT_SEEN);
    count(KIND_PATH, COUNT_FAULT);
  }
  return 0;
}

int finish_exec(void *ctx) {
  u32 slot = SLOT_EXEC;
  struct scratch *s = scratches.lookup(&slot);
  if (!s) return 0;
  walk(s, bpf_get_current_task());
  submit(s);
  return 0;
}

/* (task, old_pid, bprm): the new image is in place, its argv just copied. */
int sched_process_exec(struct bpf_raw_tracepoint_args *ctx) {
  if (!in_slice()) return 0;
  u64 task = ctx->args[0], bprm = ctx->args[2];
  struct scratch *s = begin(KIND_EXEC, SLOT_EXEC);
  if (!s) return 0;
  struct record *r = &s->r;
  u32 level = fill(r, KIND_EXEC, task);
  u32 role = current_role(), pid = r->pid;
  u32 *passed = started.lookup(&role);
  /* Start boundary: the first program of the container's pid 1. */
  if (role && passed && !*passed && level && r->vpid == 1) *passed = 1;
  place(r, role);
  members.update(&pid, &role);
  r->syscall = 59;
  r->flags |= FLAG_OBJECT;
  long n = bpf_probe_read_kernel_str(s->raw, RMAX,
                                     (void *)rd8(bprm, OFF_linux_binprm__filename));
  if (n >= RMAX) r->flags |= FLAG_TRUNCATED;
  u32 len = n > 0 ? (u32)n & (2 * RMAX - 1) : 0;
  u64 mm = rd8(task, OFF_task_struct__mm);
  u64 from = rd8(mm, OFF_mm_struct__arg_start);
  u64 size = rd8(mm, OFF_mm_struct__arg_end) - from;
  if (size > ARGV_MAX) {
    size = ARGV_MAX;
    r->flags |= FLAG_ARGS_CUT;
  }
  u32 take = (u32)size & (RMAX - 1);
  if (from_user(r, &s->raw[len], take, from)) {
    r->flags |= FLAG_ARGS_CUT;
    take = 0;
  }
  s->raw_len = len + take;
  s->path = rd8(bprm, OFF_linux_binprm__file) + OFF_file__f_path;
  exec_programs.call(ctx, FINISH_EXEC);
  count(KIND_EXEC, COUNT_FAULT);
  return 0;
}

/* (parent, child) */
int sched_process_fork(struct bpf_raw_tracepoint_args *ctx) {
  if (!in_slice()) return 0;
  u64 child = ctx->args[1];
  struct record r;
  count(KIND_FORK, COUNT_SEEN);
  fill(&r, KIND_FORK, ctx->args[0]);
  u32 role = current_role();
  place(&r, role);
  u64 pid = rd8(child, OFF_task_struct__thread_pid);
  u32 tgid = rd4(child, OFF_task_struct__tgid);
  r.a0 = number_in_namespace(pid, rd4(pid, OFF_pid__level));
  r.a1 = tgid != r.pid;
  r.a2 = tgid;
  if (r.a1) members.update(&tgid, &role);
  give(&r, HDR);
  return 0;
}

/* (task): in do_exit, signal->live has already been counted down. */
int sched_process_exit(struct bpf_raw_tracepoint_args *ctx) {
  if (!in_slice()) return 0;
  u64 task = bpf_get_current_task();
  struct record r;
  count(KIND_EXIT, COUNT_SEEN);
  fill(&r, KIND_EXIT, task);
  place(&r, current_role());
  u64 signal = rd8(task, OFF_task_struct__signal);
  u32 pid = r.pid;
  r.a0 = rd4(task, OFF_task_struct__exit_code);
  r.a1 = rd4(signal, OFF_signal_struct__live_counter) == 0;
  if (r.a1) members.delete(&pid);
  give(&r, HDR);
  return 0;
}

/*
 * (dst, path, task, threadgroup): fires after the move, in whoever writes
 * cgroup.procs. A process of the slice that is moved anywhere is a tripwire.
 */
int cgroup_attach_task(struct bpf_raw_tracepoint_args *ctx) {
  u64 task = ctx->args[2];
  u32 tgid = rd4(task, OFF_task_struct__tgid);
  u32 *role = members.lookup(&tgid);
  if (!role) return 0;
  struct scratch *s = begin(KIND_ATTACH, SLOT_ATTACH);
  if (!s) return 0;
  struct record *r = &s->r;
  fill(r, KIND_ATTACH, task);
  place(r, *role & WHERE_ROLE);
  r->pid = tgid;
  r->tid = tgid;
  long n = bpf_probe_read_kernel_str(s->raw, RMAX, (void *)ctx->args[1]);
  if (n > 0) s->raw_len = (u32)(n - 1) & (RMAX - 1);
  submit(s);
  return 0;
}

/*
 * Attached to the cgroup of one role: so the task is in it, and the role needs no
 * helper that this program type lacks on some kernel. The kernel has copied the
 * address: unlike the sockaddr that sys_exit reads, nobody can swap it. These
 * hooks may be preempted, so they build their record on the stack.
 */
struct net_record {
  struct record r;
  u32 address[4];
};

static __always_inline int inet(struct bpf_sock_addr *ctx, u32 role, u32 hook, int v6) {
  struct net_record n = {};
  count(KIND_NET, COUNT_SEEN);
  fill(&n.r, KIND_NET, bpf_get_current_task());
  place(&n.r, role);
  n.r.a0 = hook;
  n.r.a1 = bpf_ntohs(ctx->user_port);
  n.r.a2 = (u64)ctx->type << 8 | ctx->protocol;
  if (v6) {
    n.address[0] = ctx->user_ip6[0];
    n.address[1] = ctx->user_ip6[1];
    n.address[2] = ctx->user_ip6[2];
    n.address[3] = ctx->user_ip6[3];
  } else {
    n.address[0] = ctx->user_ip4;
  }
  n.r.raw_len = v6 ? 16 : 4;
  give(&n.r, HDR + (v6 ? 16 : 4));
  return 1; /* 0 would deny */
}

int subject_connect4(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 0, 0); }
int subject_connect6(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 0, 1); }
int subject_sendmsg4(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 1, 0); }
int subject_sendmsg6(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 1, 1); }
int subject_bind4(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 2, 0); }
int subject_bind6(struct bpf_sock_addr *ctx) { return inet(ctx, 1, 2, 1); }
int tools_connect4(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 0, 0); }
int tools_connect6(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 0, 1); }
int tools_sendmsg4(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 1, 0); }
int tools_sendmsg6(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 1, 1); }
int tools_bind4(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 2, 0); }
int tools_bind6(struct bpf_sock_addr *ctx) { return inet(ctx, 2, 2, 1); }
