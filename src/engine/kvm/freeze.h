/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's state on its way into a directory: shared by freezing and forking. Caller's thread.
 */
#ifndef ENGINE_KVM_FREEZE_H
#define ENGINE_KVM_FREEZE_H

#include "engine/kvm/machine.h"

struct vmm_saving {
    struct frozen frozen;
    struct manifest manifest;
    int state, pages; /* owned */
    bool all;         /* pages is a whole memory file; else it belongs to a link to the base */
};

/* vmm_saving_done() is due after a failure, too. */
int vmm_saving_begin(struct vmm *m, const char *dir, enum manifest_kind kind, struct vmm_saving *s,
                     struct err *e) MUST_CHECK;
/* msg: SAVE or FORK, its members but save.all filled in; fds begin with state and pages. */
int vmm_save(struct vmm *m, struct vmm_saving *s, struct monitor_message *msg, const int *fds,
             struct monitor_answer *ret, struct err *e) MUST_CHECK;
int vmm_saving_commit(struct vmm *m, struct vmm_saving *s, struct err *e) MUST_CHECK;
void vmm_saving_done(struct vmm_saving *s); /* removes what was not committed */

/* fork.c */
int vmm_fork(struct vmm *m, const char *dir, struct engine_fork_info *ret,
             struct err *e) MUST_CHECK;

#endif
