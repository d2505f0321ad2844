// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Who adds which rows.

namespace step {

void add_lock_rows();
void add_semaphore_rows();
void add_condition_rows();
void add_event_rows();
void add_barrier_rows();
void add_value_rows();
void add_shm_rows();
void add_queue_rows();
void add_connection_rows();
void add_pool_rows();

inline void add_all_rows() {
    add_lock_rows();
    add_semaphore_rows();
    add_condition_rows();
    add_event_rows();
    add_barrier_rows();
    add_value_rows();
    add_shm_rows();
    add_queue_rows();
    add_connection_rows();
    add_pool_rows();
}

}  // namespace step
