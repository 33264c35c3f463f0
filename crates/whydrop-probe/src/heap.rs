//! What attaching leaves behind in memory: nothing, if the allocator gives it back.

/// Has large blocks given back to the kernel as soon as they are freed.
///
/// To attach, the kernel's types are read, many megabytes that are freed again. glibc takes the first
/// large block that is freed as a sign to keep blocks of that size (`mallopt(3)`, `M_MMAP_THRESHOLD`),
/// and would keep them as long as the window is open.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator has no safe interface")]
pub(crate) fn give_back() {
    /// glibc's own threshold before it moves.
    const THRESHOLD: libc::c_int = 128 * 1024;
    // SAFETY: sets a parameter of the allocator under its own lock; no memory is handed over.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
    }
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
