//! Who a process is: the table that outlives processes, /proc, users, cgroups, packages, hashes.
