//! The table of the seeded defects. `docs/defects.md` shows the same names; a test compares table, document and code.

use vol_core::Plan;

use super::{Hunt, plans};

/// Where a defect is put in.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A place in the product: `vol_types::defect(name)`.
    Code,
    /// A place in the simulator: the host does something else than its contract says.
    Host,
    /// Every plan is put through this before it is executed.
    Plan(fn(&mut Plan)),
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Host => "host",
            Self::Plan(_) => "plan",
        }
    }
}

/// One way to make the product wrong.
pub struct Defect {
    pub name: &'static str,
    pub kind: Kind,
    /// What it breaks.
    pub breaks: &'static str,
    /// The hunt that is expected to find it, which is tried first.
    pub first: Hunt,
}

const fn code(name: &'static str, first: Hunt, breaks: &'static str) -> Defect {
    Defect { name, kind: Kind::Code, breaks, first }
}
const fn host(name: &'static str, first: Hunt, breaks: &'static str) -> Defect {
    Defect { name, kind: Kind::Host, breaks, first }
}
const fn plan(name: &'static str, mutation: fn(&mut Plan), first: Hunt, breaks: &'static str) -> Defect {
    Defect { name, kind: Kind::Plan(mutation), breaks, first }
}

use Hunt::{OneOperation as One, Scenarios as Story, Seeds, TwoOperations as Two};

/// All of them.
pub const DEFECTS: &[Defect] = &[
    // The log and the checkpoints.
    code("a record's checksum is not looked at", Story, "a torn or damaged record is taken for a commit"),
    code("a record of another disk is taken", Story, "a write that went to the wrong disk becomes part of its history"),
    code("a record of another place is taken", Story, "a write that went astray, or of an earlier lap, counts"),
    code("the chain of hashes is not looked at", Story, "a record of another history is appended to this one"),
    code("a gap in the log is not seen", Story, "commits are skipped that later ones build upon"),
    code("damage in the middle of a log is not seen", Story, "acknowledged commits are lost and nobody is told"),
    code("the log is written over", Story, "records go that no checkpoint holds yet"),
    code(
        "the log is free before the checkpoint is written",
        Story,
        "a power cut during a checkpoint loses what it was to hold",
    ),
    code("a checkpoint goes over the newest", Story, "a power cut during a checkpoint loses the only one"),
    code("a checkpoint skips a record", Story, "the first commit behind a checkpoint is lost"),
    code("a checkpoint's header goes before its payload", Story, "the header vouches for what is not written"),
    code("a checkpoint is not flushed", Story, "the header vouches for what is not durable"),
    code("the older checkpoint is read", Story, "what is shown is old, or is not found at all"),
    // Copies and majorities.
    code("a change is seen before it is durable", Story, "readers are told of what the next start does not find"),
    code(
        "what is owed is forgotten",
        Story,
        "the end of a transaction is never written, and the next start does not know of it",
    ),
    code("a commit is acknowledged by any copy", Story, "what was acknowledged goes with one disk"),
    code(
        "a commit without its majority is forgotten",
        Story,
        "the group goes on from a state that may turn out otherwise",
    ),
    code("a copy that failed is written to", Story, "a copy with a gap counts as whole"),
    code("a copy that is behind stays so", Story, "what was acknowledged goes with the other disks"),
    code("another history is taken for an old one", Story, "one of two states that people worked with is thrown away"),
    code("where a copy was left is not recorded", Story, "a disk that was away for long is never used again"),
    code("the first copy is believed", Story, "an old disk that comes back undoes acknowledged changes"),
    code("a wiped copy votes", Story, "an old copy is taken for the truth"),
    code("a minority takes changes", Story, "two halves of a group change apart from each other"),
    code("a minority recovers", Story, "old copies undo what the others have done since"),
    code("one copy proves a deletion", Story, "a deletion that failed erases the disk that heard of it"),
    code("a new group needs a majority only", Story, "a group counts of which a copy still says that it may be erased"),
    // Disks.
    code("a label is a licence", Story, "a disk that somebody else uses by now is written to"),
    code("either of two clones is used", Story, "the wrong one of two equal disks is written to"),
    code("a disk that shrank is used", Story, "the end of volumes is not there"),
    code("a disk that goes is not missed", Story, "nobody is told, and changes are sent to a pool without its disk"),
    code("a disk is told by its name", Story, "another disk under that name is taken for the one that went"),
    code("a disk that comes back is not looked at", Story, "what came in its place is written to"),
    code("lost news of disks are not made up for", Story, "what came while nothing could be heard is not told of"),
    code(
        "metadata is erased before the label",
        One,
        "a deletion that is cut short leaves a disk that nobody can make sense of",
    ),
    // Plans and recovery.
    code("extents are given twice", Two, "two pools write over each other"),
    code("a name is given twice", Seeds, "two volumes cannot be told apart"),
    code("a thin id is used again", One, "a volume begins with what another left"),
    code("snapshots are not counted", Story, "the pool's clock of snapshots can wrap around"),
    code("changes of a batch do not see each other", Story, "two changes of one name are planned at once"),
    code(
        "changes of a batch do not see what the others promise",
        Story,
        "requests made at once pass the over-commit limit",
    ),
    code("a batch that failed is acknowledged", Story, "a volume is promised that is not there"),
    code("the clock decides", Story, "a clock that goes back stops the work"),
    code("preconditions are not looked at", Story, "steps are taken in a world that is not the one of the plan"),
    code("a pool's blank metadata is loaded", Story, "the kernel formats a pool that has data in it"),
    code("a message that returned 0 is believed", Story, "a volume is acknowledged that the pool has not committed"),
    code("what mkfs left is not looked at", Story, "a volume without its file system is handed out"),
    code("what is suspended stays so", Story, "programs that use the volume hang"),
    code("an intent is taken for the deed", One, "volumes are shown that the pool does not have"),
    code("what is taken back stays in the pool", One, "thin ids pile up that nobody knows"),
    code("thick space is handed out as it is", Story, "who gets extents reads what others wrote"),
    code("claims are not looked at", Story, "two changes of one volume are made at once"),
    code("a repair forgets the original", Story, "what a repair got wrong cannot be looked up any more"),
    code("a pool grows into the spare", Story, "a pool whose metadata are damaged cannot be repaired"),
    code("an unformatted volume is ready", One, "a volume without a file system is handed out as a raw one"),
    code(
        "the root is mounted instead of the directory",
        Story,
        "who was promised an empty directory finds `lost+found`, and writes beside it",
    ),
    // Steps.
    plan("plan: the intent is not recorded", plans::no_intent, One, "what was half done in the pool is never settled"),
    plan(
        "plan: the message goes before the intent",
        plans::message_before_intent,
        One,
        "a thin id is made that no record knows",
    ),
    plan(
        "plan: the swap goes before the message",
        plans::swap_before_message,
        One,
        "recovery takes for done what is not",
    ),
    plan("plan: the transaction id is not swapped", plans::no_swap, One, "kernel and catalog no longer count alike"),
    plan("plan: pools are not checked", plans::no_check, Story, "a message whose commit failed is believed"),
    plan(
        "plan: the done record goes before the message",
        plans::done_before_message,
        One,
        "a volume is shown that is not there yet",
    ),
    plan("plan: the done record is not written", plans::no_done, One, "a change stays half made"),
    plan(
        "plan: the message names the next thin id",
        plans::thin_id_plus_one,
        One,
        "the volume's thin id is not in the pool",
    ),
    plan(
        "plan: a deletion is not sent to the pool",
        plans::no_delete_message,
        One,
        "the space of deleted volumes is never given back",
    ),
    plan(
        "plan: the labels go before the checkpoint",
        plans::labels_before_checkpoint,
        One,
        "a label promises metadata that are not there",
    ),
    plan(
        "plan: the mark goes before the labels",
        plans::marks_before_labels,
        One,
        "a disk is marked as ours that carries nothing of ours",
    ),
    plan(
        "plan: labels are erased before marks",
        plans::labels_before_marks,
        One,
        "a mark stays that nobody knows to erase",
    ),
    plan(
        "plan: disks with metadata are erased first",
        plans::metadata_first,
        Story,
        "the other disks stay labelled for a group that is gone",
    ),
    plan(
        "plan: erasing is not recorded",
        plans::no_erasing,
        One,
        "a deletion cannot go on when some copies are erased",
    ),
    plan(
        "plan: a deletion is not recorded",
        plans::no_deleting,
        One,
        "a group that is half erased still says that it is whole",
    ),
    plan(
        "plan: a snapshot does not suspend its origin",
        plans::no_suspend,
        One,
        "the snapshot has a file system in the middle of a write",
    ),
    plan(
        "plan: a new pool's metadata are not blanked",
        plans::no_zero,
        One,
        "the kernel opens what a deleted pool left",
    ),
    plan(
        "plan: a volume is recorded as formatted before it is",
        plans::formatted_before_mkfs,
        One,
        "half a file system is mounted",
    ),
    plan(
        "plan: a volume is recorded as formatted before its directory is made",
        plans::formatted_before_root,
        Story,
        "a volume is ready that can never be mounted",
    ),
    plan(
        "plan: the directory that is handed out is not made",
        plans::no_root,
        Story,
        "a volume is ready that can never be mounted",
    ),
    plan("plan: nothing is formatted", plans::no_mkfs, One, "a volume without its file system is handed out"),
    plan(
        "plan: what mkfs left is not verified",
        plans::no_verify,
        Story,
        "a volume without its file system is handed out",
    ),
    plan("plan: devices are not removed", plans::no_remove, One, "what is deleted stays active"),
    plan(
        "plan: a pool's record goes before its devices",
        plans::pool_forgotten_first,
        One,
        "devices stay that nobody knows",
    ),
    plan("plan: a snapshot is mounted writable", plans::writable_snapshot, One, "a snapshot changes"),
    plan(
        "plan: a snapshot of an XFS needs a UUID of its own",
        plans::same_uuid_refused,
        One,
        "it cannot be mounted beside its origin",
    ),
    plan(
        "plan: files are not remembered",
        plans::no_remember,
        Story,
        "the disk of a group is not found after a reboot",
    ),
    plan("plan: suspended devices are not resumed", plans::no_resume, Story, "programs that use the volume hang"),
    // The host.
    host("host: a flush does nothing", Story, "what a checkpoint or a start relied on is lost with the power"),
    host("host: a durable write is not flushed", One, "acknowledged changes are lost with the power"),
    host("host: of several writes only the first is made", Story, "there is one copy of what is to have several"),
    host("host: every new id is the same", One, "objects cannot be told apart"),
    host("host: a deleted file stays", One, "space on the host is never given back"),
    host("host: zeroing leaves what was there", One, "the kernel opens what a deleted pool left"),
    host("host: wiping leaves what was there", Story, "who gets extents reads what others wrote"),
    host("host: the origin of a snapshot runs on", One, "the snapshot has a file system in the middle of a write"),
    host("host: the origin of a snapshot stays suspended", One, "programs that use the volume hang"),
    host("host: mkfs leaves half a file system", One, "a volume cannot be made"),
    host("host: a read-only mount is writable", One, "a snapshot changes"),
];
