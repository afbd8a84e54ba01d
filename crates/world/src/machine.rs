//! What the machine offers and what this process uses of it, for limits that are a share of memory and for metrics.

/// Memory that this process may use: the machine's, or its control group's limit when that is lower.
pub fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(2 << 30, |kib| kib << 10);
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    group.map_or(machine, |limit| machine.min(limit.max(64 << 20)))
}

/// Resident memory of this process, 0 where it cannot be told.
pub fn resident_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * rustix::param::page_size() as u64)
}

/// Processor time used by this process so far, user and system.
pub fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}

/// Processors available to this process.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Gives memory that was freed back to the operating system. The allocator keeps it for the next burst otherwise, up to
/// several times what is in use. Takes milliseconds and makes the next use of that memory slower: for idle times.
pub fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only; it has no preconditions.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
