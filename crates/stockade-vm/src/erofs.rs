//! Writes an EROFS image: a tree that is planned in memory and whose contents come from the host.
//!
//! Only what the format needs to be mounted: no compression (an emulated machine pays for it with
//! every read), no extended attributes, no shared blocks. The kernel's own documentation of the
//! format is `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`.
//!
//! ```text
//! block 0      superblock at byte 1024
//! block 1…     inodes, 64 bytes each, the first one left free; a node's number is twice its index
//! then         names of folders, targets of links, contents of files, each from a block's start
//! ```
//!
//! Why not `mkfs.erofs`: it takes a folder as it is on disk, so that an allow-listed view would
//! have to be mounted together in a user namespace, and it stops at the first file that this user
//! may not read (ADR 0011).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

const BLOCK: u64 = 4096;
const MAGIC: u32 = 0xe0f5_e1e2;
const INODE: u64 = 64;
/// Nodes are numbered in units of 32 bytes.
const SLOTS: u64 = INODE / 32;
const FIRST_INODE_BLOCK: u64 = 1;
/// Format of an extended inode whose data is not compressed and not inline.
const EXTENDED_PLAIN: u16 = 1;
/// Bytes of an entry of a folder, without its name.
const ENTRY: usize = 12;

/// A node of the tree under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node(usize);

impl Node {
    /// The folder that everything is in.
    pub(crate) const ROOT: Self = Self(0);
}

/// What is kept of a file's attributes; everything belongs to root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    /// Permission bits; set-id bits are for the caller to leave out.
    pub(crate) mode: u16,
    pub(crate) mtime: (i64, u32),
}

/// Where a file's content comes from.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// A file of the host, of this many bytes when it was looked at.
    Host(PathBuf, u64),
}

#[derive(Debug)]
enum Kind {
    Folder { entries: BTreeMap<Vec<u8>, Node>, parent: Node },
    File(Content),
    Link(Vec<u8>),
}

impl Kind {
    /// Type bits of `st_mode`, and the type in an entry of a folder.
    fn types(&self) -> (u16, u8) {
        match self {
            Self::File(_) => (0o100_000, 1),
            Self::Folder { .. } => (0o040_000, 2),
            Self::Link(_) => (0o120_000, 7),
        }
    }
}

#[derive(Debug)]
struct Inode {
    kind: Kind,
    attributes: Attributes,
    links: u32,
}

/// A tree to be written.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Inode>);

impl Tree {
    pub(crate) fn new() -> Self {
        let attributes = Attributes { mode: 0o755, mtime: (0, 0) };
        let kind = Kind::Folder { entries: BTreeMap::new(), parent: Node::ROOT };
        Self(vec![Inode { kind, attributes, links: 2 }])
    }

    /// A folder in `parent`; the one that is there already keeps its attributes.
    pub(crate) fn folder(&mut self, parent: Node, name: &[u8], attributes: Attributes) -> Node {
        if let Some(there) = self.entries(parent).and_then(|entries| entries.get(name).copied())
            && self.entries(there).is_some()
        {
            return there;
        }
        let kind = Kind::Folder { entries: BTreeMap::new(), parent };
        if let Some(parent) = self.0.get_mut(parent.0) {
            parent.links += 1;
        }
        self.add(parent, name, Inode { kind, attributes, links: 2 })
    }

    pub(crate) fn file(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> Node {
        self.add(parent, name, Inode { kind: Kind::File(content), attributes, links: 1 })
    }

    pub(crate) fn link(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        target: Vec<u8>,
    ) {
        let attributes = Attributes { mode: 0o777, ..attributes };
        self.add(parent, name, Inode { kind: Kind::Link(target), attributes, links: 1 });
    }

    /// A further name of a file.
    pub(crate) fn alias(&mut self, parent: Node, name: &[u8], file: Node) {
        if self.enter(parent, name, file)
            && let Some(inode) = self.0.get_mut(file.0)
        {
            inode.links += 1;
        }
    }

    fn add(&mut self, parent: Node, name: &[u8], inode: Inode) -> Node {
        let node = Node(self.0.len());
        self.0.push(inode);
        self.enter(parent, name, node);
        node
    }

    fn enter(&mut self, parent: Node, name: &[u8], node: Node) -> bool {
        match self.0.get_mut(parent.0).map(|inode| &mut inode.kind) {
            Some(Kind::Folder { entries, .. }) => entries.insert(name.to_vec(), node).is_none(),
            _ => false,
        }
    }

    fn entries(&self, folder: Node) -> Option<&BTreeMap<Vec<u8>, Node>> {
        match self.0.get(folder.0).map(|inode| &inode.kind) {
            Some(Kind::Folder { entries, .. }) => Some(entries),
            _ => None,
        }
    }

    /// Plans where everything goes.
    pub(crate) fn laid_out(self) -> Layout {
        let table = (self.0.len() as u64 + 1) * INODE;
        let mut next = FIRST_INODE_BLOCK + table.div_ceil(BLOCK);
        let mut placed = Vec::with_capacity(self.0.len());
        for (index, inode) in self.0.iter().enumerate() {
            let names = match &inode.kind {
                Kind::Folder { entries, parent } => {
                    self.folder_blocks(Node(index), *parent, entries)
                }
                Kind::File(_) | Kind::Link(_) => Vec::new(),
            };
            let bytes = match &inode.kind {
                Kind::Folder { .. } => names.len() as u64,
                Kind::File(Content::Bytes(bytes)) | Kind::Link(bytes) => bytes.len() as u64,
                Kind::File(Content::Host(_, bytes)) => *bytes,
            };
            placed.push(Placed { block: next, bytes, names });
            next += bytes.div_ceil(BLOCK);
        }
        Layout { inodes: self.0, placed, blocks: next }
    }

    /// The blocks of a folder: entries sorted by name, as many as fit a block, their names behind
    /// them. The last block is as long as it needs to be.
    fn folder_blocks(&self, own: Node, parent: Node, entries: &BTreeMap<Vec<u8>, Node>) -> Vec<u8> {
        let mut all: Vec<(&[u8], Node)> = vec![(b".", own), (b"..", parent)];
        all.extend(entries.iter().map(|(name, node)| (name.as_slice(), *node)));
        all.sort_by_key(|(name, _)| *name);
        let mut out: Vec<u8> = Vec::new();
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let mut used = 0;
            let fitting = rest.iter().take_while(|(name, _)| {
                used += (ENTRY + name.len()) as u64;
                used <= BLOCK
            });
            let (now, later) = rest.split_at(fitting.count());
            // The block before this one is filled up; a NUL ends its last name.
            out.resize((out.len() as u64).next_multiple_of(BLOCK).try_into().unwrap_or(0), 0);
            let mut name_at = now.len() * ENTRY;
            for (name, node) in now {
                out.extend(number(*node).to_le_bytes());
                out.extend(u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
                let kind = self.0.get(node.0).map_or(0, |inode| inode.kind.types().1);
                out.extend([kind, 0]);
                name_at += name.len();
            }
            for (name, _) in now {
                out.extend_from_slice(name);
            }
            rest = later;
        }
        out
    }
}

/// What the format calls a node: the place of its inode, in units of 32 bytes. The first one is
/// left free, since 0 as an inode's number means "deleted" to some programs.
fn number(node: Node) -> u64 {
    (node.0 as u64 + 1) * SLOTS
}

#[derive(Debug)]
struct Placed {
    block: u64,
    bytes: u64,
    /// What a folder has in its blocks.
    names: Vec<u8>,
}

/// The image is not whole.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// As was wished.
    Stopped,
    /// The host's file could not be read.
    Read(PathBuf, io::Error),
    /// The image itself could not be written.
    Write(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// A tree with a place for everything.
#[derive(Debug)]
pub(crate) struct Layout {
    inodes: Vec<Inode>,
    placed: Vec<Placed>,
    blocks: u64,
}

impl Layout {
    /// How long the image will be.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks * BLOCK
    }

    /// Writes the image. A file that has become shorter since it was looked at ends in zeros, and
    /// one that has become longer is cut: the caller looks again whether something has changed.
    ///
    /// `goes_on` is asked before each file whether to, and told how many bytes there are.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: what was written is no image.
    pub(crate) fn write(
        &self,
        image: &mut File,
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), WriteError> {
        image.set_len(self.bytes())?;
        self.write_tables(image)?;
        for (inode, placed) in self.inodes.iter().zip(&self.placed) {
            if !goes_on(placed.block * BLOCK) {
                return Err(WriteError::Stopped);
            }
            if placed.bytes == 0 {
                continue;
            }
            image.seek(SeekFrom::Start(placed.block * BLOCK))?;
            match &inode.kind {
                Kind::Folder { .. } => image.write_all(&placed.names)?,
                Kind::File(Content::Bytes(bytes)) | Kind::Link(bytes) => {
                    image.write_all(bytes)?;
                }
                Kind::File(Content::Host(path, bytes)) => {
                    copy(path, *bytes, image)
                        .map_err(|error| WriteError::Read(path.clone(), error))?;
                }
            }
        }
        Ok(())
    }

    fn write_tables(&self, image: &mut File) -> io::Result<()> {
        image.seek(SeekFrom::Start(1024))?;
        image.write_all(&self.superblock()?)?;
        image.seek(SeekFrom::Start(FIRST_INODE_BLOCK * BLOCK + INODE))?;
        let mut out = BufWriter::new(image);
        for (index, (inode, placed)) in self.inodes.iter().zip(&self.placed).enumerate() {
            let (seconds, nanoseconds) = inode.attributes.mtime;
            let block = u32::try_from(placed.block).map_err(io::Error::other)?;
            let own = u32::try_from(number(Node(index))).map_err(io::Error::other)?;
            out.write_all(&EXTENDED_PLAIN.to_le_bytes())?;
            out.write_all(&[0; 2])?;
            out.write_all(&(inode.kind.types().0 | inode.attributes.mode).to_le_bytes())?;
            out.write_all(&[0; 2])?;
            out.write_all(&placed.bytes.to_le_bytes())?;
            out.write_all(&block.to_le_bytes())?;
            out.write_all(&own.to_le_bytes())?;
            // User and group 0.
            out.write_all(&[0; 8])?;
            out.write_all(&seconds.to_le_bytes())?;
            out.write_all(&nanoseconds.to_le_bytes())?;
            out.write_all(&inode.links.to_le_bytes())?;
            out.write_all(&[0; 16])?;
        }
        out.flush()
    }

    fn superblock(&self) -> io::Result<[u8; 128]> {
        let mut out = [0; 128];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &MAGIC.to_le_bytes());
        // Logarithm of the size of a block.
        put(12, &[12]);
        let root = u16::try_from(number(Node::ROOT)).map_err(io::Error::other)?;
        put(14, &root.to_le_bytes());
        put(16, &(self.inodes.len() as u64).to_le_bytes());
        put(36, &u32::try_from(self.blocks).map_err(io::Error::other)?.to_le_bytes());
        put(40, &u32::try_from(FIRST_INODE_BLOCK).map_err(io::Error::other)?.to_le_bytes());
        Ok(out)
    }
}

/// Copies `bytes` of the file at `path`; by the kernel where it can.
fn copy(path: &PathBuf, bytes: u64, image: &mut File) -> io::Result<()> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags).map_err(io::Error::other)?)
        .open(path)?;
    io::copy(&mut file.take(bytes), image).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const PLAIN: Attributes = Attributes { mode: 0o644, mtime: (1_700_000_000, 123_456_789) };

    fn image_of(tree: Tree) -> tempfile::NamedTempFile {
        let mut image = tempfile::NamedTempFile::new().unwrap();
        tree.laid_out().write(image.as_file_mut(), &mut |_| true).unwrap();
        image
    }

    /// The oracle: what erofs-utils reads out of an image.
    fn extracted(image: &tempfile::NamedTempFile) -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        let at = format!("--extract={}", folder.path().join("x").display());
        let output = Command::new("fsck.erofs").arg(at).arg(image.path()).output();
        let Ok(output) = output else {
            let is_expected = std::env::var("STOCKADE_EXPECT").is_ok_and(|it| it.contains("vm"));
            assert!(!is_expected, "fsck.erofs is missing (erofs-utils)");
            eprintln!("skipped: an image read by other people's code: no fsck.erofs");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(folder)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut tree = Tree::new();
        let folder = tree.folder(Node::ROOT, b"a", Attributes { mode: 0o755, ..PLAIN });
        let source = tempfile::NamedTempFile::new().unwrap();
        let big: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(source.path(), &big).unwrap();
        let content = Content::Host(source.path().to_owned(), big.len() as u64);
        let file = tree.file(folder, b"big", Attributes { mode: 0o755, ..PLAIN }, content);
        tree.alias(Node::ROOT, b"again", file);
        tree.file(folder, b"empty", PLAIN, Content::Bytes(Vec::new()));
        tree.file(folder, b"-before-dot", PLAIN, Content::Bytes(b"small".to_vec()));
        tree.link(folder, b"link", PLAIN, b"../again".to_vec());
        // More names than fit a block, of all lengths.
        let many = tree.folder(Node::ROOT, b"many", PLAIN);
        for number in 0..255_usize {
            let name = "n".repeat(number + 1);
            tree.file(many, name.as_bytes(), PLAIN, Content::Bytes(vec![b'x'; number]));
        }
        let Some(out) = extracted(&image_of(tree)) else { return };
        let read = |path: &str| std::fs::read(out.path().join("x").join(path)).unwrap();
        assert!(read("a/big") == big && read("again") == big);
        assert_eq!(read("a/empty"), b"");
        assert_eq!(read("a/-before-dot"), b"small");
        let link = std::fs::read_link(out.path().join("x/a/link")).unwrap();
        assert_eq!(link.to_str(), Some("../again"));
        for number in 0..255_usize {
            assert_eq!(read(&format!("many/{}", "n".repeat(number + 1))).len(), number);
        }
    }

    #[test]
    fn the_plan_says_how_long_the_image_is() {
        let mut tree = Tree::new();
        tree.file(Node::ROOT, b"f", PLAIN, Content::Bytes(vec![1; 4097]));
        let layout = tree.laid_out();
        // Superblock, inodes, names of the root, two of the file.
        assert_eq!(layout.bytes(), 5 * BLOCK);
        let mut image = tempfile::tempfile().unwrap();
        let mut told = Vec::new();
        let mut goes_on = |at| {
            told.push(at);
            true
        };
        layout.write(&mut image, &mut goes_on).unwrap();
        assert!(told.is_sorted() && told.last().is_some_and(|at| *at < layout.bytes()), "{told:?}");
        assert_eq!(image.metadata().unwrap().len(), layout.bytes());
    }

    #[test]
    fn a_file_that_has_gone_is_named() {
        let mut tree = Tree::new();
        let gone = PathBuf::from("/nowhere/at/all");
        tree.file(Node::ROOT, b"f", PLAIN, Content::Host(gone.clone(), 5));
        let error = tree.laid_out().write(&mut tempfile::tempfile().unwrap(), &mut |_| true);
        assert!(matches!(error, Err(WriteError::Read(path, _)) if path == gone));
    }
}
