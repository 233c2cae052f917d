//! The model itself, claim by claim. What the kernel really does is asserted by the contract tests of the lab.

mod crash;
mod disks;
mod faults;
mod machine;
mod mapper;
mod pools;
mod volumes;
