//! What a process takes of the system, from `/proc`.

use std::fs;

/// The memory that a process has resident, in KiB. None when it is gone.
pub fn resident(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// The most that it ever had resident, in KiB. None when it is gone.
pub fn peak_resident(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// How many descriptors a process has open. None when it is gone.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

fn status(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let row = status.lines().find_map(|row| row.strip_prefix(key))?;
    row.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_seen() {
        let me = std::process::id();
        // Tests beside this one take and give back, too.
        let block = vec![1_u8; 64 << 20];
        assert!(resident(me).unwrap() > 48 << 10);
        drop(block);
        assert!(peak_resident(me).unwrap() > 48 << 10);
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/").unwrap()).collect();
        assert!(descriptors(me).unwrap() >= files.len());
        assert_eq!(resident(u32::MAX), None);
    }
}
