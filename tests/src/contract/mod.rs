//! The contract with the kernel: what the product, and the simulator in its place, take for granted.
//!
//! Each clause is one function over a [`Bench`](bench::Bench). It runs against `vol_sim::SimHost` (`contract_sim`) and against
//! `vol_linux::LinuxHost` on a real kernel (`device_contract`), and asserts the same of both. docs/kernel-contract.md lists the
//! clauses with the kernel's source; a test keeps that list and this one the same.

pub mod bench;
pub mod disks;
pub mod failures;
pub mod files;
pub mod linux;
pub mod maps;
pub mod messages;
pub mod pools;
pub mod sharing;
pub mod sim;
pub mod space;
pub mod thins;

/// Hands all clauses to a macro: id, topic, name.
#[macro_export]
macro_rules! contract_clauses {
    ($then:ident) => {
        $then! {
            "KC-1" messages::creating_a_thin_id_that_is_taken_is_exists;
            "KC-2" messages::an_absent_thin_id_is_not_found;
            "KC-3" messages::deleting_an_open_thin_is_busy;
            "KC-4" messages::a_thin_id_has_24_bits;
            "KC-5" messages::what_is_no_message_is_invalid;
            "KC-6" messages::a_message_goes_to_a_pool_and_nowhere_else;
            "KC-7" messages::a_transaction_id_moves_only_from_where_it_is;
            "KC-8" messages::a_transaction_id_may_go_anywhere;
            "KC-9" messages::what_messages_did_is_there_after_reactivation;
            "KC-10" messages::a_suspended_pool_takes_messages_all_the_same;
            "KC-11" messages::a_message_to_a_device_without_a_table_does_nothing;
            "KC-12" thins::blocks_are_taken_by_first_writes_and_counted_once;
            "KC-13" thins::a_new_chunk_reads_as_zeros_around_what_was_written;
            "KC-14" thins::a_snapshot_shares_until_one_side_is_written_to;
            "KC-15" thins::deleting_gives_back_what_nobody_shares;
            "KC-16" thins::a_snapshot_of_a_suspended_origin_holds_the_old_data;
            "KC-17" thins::a_snapshot_leaves_the_origin_live_also_when_it_fails;
            "KC-18" thins::the_size_of_a_thin_is_its_tables;
            "KC-19" thins::a_thin_that_is_not_there_cannot_be_opened;
            "KC-20" thins::one_thin_may_be_active_twice;
            "KC-21" thins::a_pool_with_active_thins_is_busy;
            "KC-22" thins::io_on_a_thin_waits_while_its_pool_is_suspended;
            "KC-23" thins::a_thin_cannot_be_opened_while_its_pool_is_suspended;
            "KC-24" thins::zeroing_takes_blocks;
            "KC-25" pools::zeros_make_a_fresh_pool_and_nothing_else_does;
            "KC-26" pools::a_damaged_superblock_is_refused;
            "KC-27" pools::another_chunk_size_is_refused;
            "KC-28" pools::devices_that_shrank_are_refused;
            "KC-29" pools::a_pool_grows_with_its_table;
            "KC-30" pools::metadata_that_cannot_hold_a_pool_are_refused;
            "KC-31" pools::one_metadata_device_serves_one_pool;
            "KC-32" pools::a_running_pool_keeps_its_devices_and_its_kind;
            "KC-33" pools::a_pool_without_its_disk_is_refused;
            "KC-34" pools::strange_features_are_refused;
            "KC-35" space::a_pool_that_is_exactly_full_is_not_out_of_space;
            "KC-36" space::writes_fail_for_want_of_data_space_until_the_pool_grows;
            "KC-37" space::writes_that_waited_in_vain_for_data_space_fail;
            "KC-38" space::deleting_ends_the_want_of_data_space;
            "KC-39" space::being_out_of_data_space_is_forgotten_at_reactivation;
            "KC-40" space::a_pool_without_metadata_space_takes_no_message_until_it_grows;
            "KC-41" space::a_pool_loaded_read_only_takes_no_message;
            "KC-42" space::blank_metadata_are_not_formatted_read_only;
            "KC-43" failures::a_message_whose_commit_fails_returns_success;
            "KC-44" failures::a_pool_that_needs_a_check_takes_no_message;
            "KC-45" failures::a_pool_that_needs_a_check_shows_what_was_committed;
            "KC-46" failures::needs_check_stays_through_reactivation;
            "KC-47" failures::needs_check_that_could_not_be_written_is_forgotten;
            "KC-48" failures::a_pool_that_needs_a_check_does_not_grow;
            "KC-49" failures::a_pool_whose_metadata_cannot_be_read_fails;
            "KC-50" failures::a_data_device_that_fails_fails_io_and_not_the_pool;
            "KC-51" failures::asking_for_the_status_commits_nothing;
            "KC-52" maps::a_name_or_uuid_that_is_taken_is_exists;
            "KC-53" maps::a_new_device_is_live_and_listed;
            "KC-54" maps::an_absent_device_is_not_found;
            "KC-55" maps::an_open_device_is_busy;
            "KC-56" maps::a_refused_table_leaves_no_device;
            "KC-57" maps::a_refused_change_leaves_the_old_table_live;
            "KC-58" maps::a_change_of_table_shows_no_suspend;
            "KC-59" maps::a_suspended_device_holds_io_back_until_it_is_resumed;
            "KC-60" maps::a_suspended_device_can_be_removed;
            "KC-61" maps::a_device_without_a_table_is_listed_as_such;
            "KC-62" maps::a_device_without_a_table_can_be_resumed_and_loaded;
            "KC-63" maps::a_loaded_table_becomes_live_with_a_resume;
            "KC-64" maps::a_read_only_device_takes_no_writes;
            "KC-65" maps::a_writable_table_may_stand_on_a_read_only_disk;
            "KC-66" maps::zeroing_keeps_to_its_range_and_to_our_devices;
            "KC-67" maps::two_tables_may_map_one_sector;
            "KC-68" disks::a_blank_disk_is_described;
            "KC-69" disks::what_is_no_device_is_told_apart;
            "KC-70" disks::a_disk_that_took_anothers_number_is_changed;
            "KC-71" disks::a_durable_write_is_there_and_answers_for_itself;
            "KC-72" disks::reads_and_writes_keep_to_the_device;
            "KC-73" disks::a_read_only_disk_cannot_be_opened_for_writing;
            "KC-74" disks::a_disk_that_changed_its_size_is_seen;
            "KC-75" disks::a_clone_has_the_same_bytes_and_another_identity;
            "KC-76" disks::wiping_erases_exactly_what_was_expected;
            "KC-77" disks::a_disk_in_use_cannot_be_wiped_or_detached;
            "KC-78" disks::a_file_has_one_loop_device;
            "KC-79" disks::a_loop_device_in_use_goes_when_its_last_user_goes;
            "KC-80" disks::image_files_are_made_once;
            "KC-81" disks::an_attached_file_that_is_deleted_lives_on;
            "KC-82" files::a_probe_tells_a_blank_volume_from_an_ext4;
            "KC-83" files::a_probe_tells_a_blank_volume_from_an_xfs;
            "KC-84" files::a_mount_is_listed_and_holds_its_device;
            "KC-85" files::a_mount_with_open_files_is_busy;
            "KC-86" files::a_read_only_device_mounts_read_only;
            "KC-87" files::only_the_right_file_system_mounts;
            "KC-88" files::a_volume_may_be_mounted_at_two_places;
            "KC-89" files::a_mount_over_a_mount_hides_it;
            "KC-90" files::an_xfs_and_its_snapshot_need_leave_to_be_mounted_together;
            "KC-91" thins::a_discard_gives_back_whole_chunks_and_leaves_what_others_share;
            "KC-92" thins::of_several_snapshots_those_before_the_one_that_fails_are_made;
            "KC-93" files::a_mounted_file_system_grows_to_its_device;
            "KC-94" files::a_sound_file_system_is_clean_and_one_in_use_is_not_checked;
            "KC-95" sharing::a_metadata_snapshot_shows_who_shared_what_when_it_was_taken;
            "KC-96" space::what_becomes_of_writes_when_full_is_changed_with_the_table;
            "KC-97" maps::a_slice_is_wiped_and_nothing_beside_it;
            "KC-98" maps::a_slice_is_copied_to_the_same_place_of_another_device;
            "KC-99" thins::a_slice_of_a_thin_reads_as_zeroes_when_it_is_wiped;
            "KC-100" files::a_directory_of_a_file_system_is_mounted_instead_of_its_root;
            "KC-101" thins::one_look_at_a_device_says_what_it_is_and_what_its_target_says;
            "KC-102" maps::a_link_that_udev_is_told_of_leaves_the_device_as_it_is;
            "KC-103" files::a_mount_point_is_removed_without_its_mount_and_not_with_it;
            "KC-104" files::a_mount_is_shown_at_another_place_and_each_place_goes_by_itself;
            "KC-105" files::a_devices_node_is_shown_on_a_file_and_keeps_nothing_open;
        }
    };
}

macro_rules! list {
    ($($id:literal $topic:ident::$name:ident;)*) => {
        /// Id, topic and name of each clause, in order.
        pub const CLAUSES: &[(&str, &str, &str)] = &[$(($id, stringify!($topic), stringify!($name))),*];
    };
}
contract_clauses!(list);
