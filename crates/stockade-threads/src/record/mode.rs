//! What a patch has no word for.

use serde::{Deserialize, Serialize};

use super::PathText;

/// A folder that came, went or stands empty now; or permissions that git does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// Relative to the root of the changes.
    #[serde(flatten)]
    pub path: PathText,
    /// Whether it is a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folder: bool,
    /// Before; missing for what was not there, or was something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Permissions>,
    /// After; missing for what is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Permissions>,
}

/// The lower twelve bits of `st_mode`, in octal digits for everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Permissions(u32);

impl Permissions {
    /// Those of `mode`.
    pub fn of(mode: u32) -> Self {
        Self(mode & 0o7777)
    }

    /// As chmod(2) takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Permissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<Permissions> for String {
    fn from(permissions: Permissions) -> Self {
        permissions.to_string()
    }
}

impl TryFrom<String> for Permissions {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u32::from_str_radix(&text, 8).map(Self::of)
    }
}

impl ModeChange {
    /// In words, after the path.
    pub fn words(&self) -> String {
        let (before, after) = (self.before, self.after);
        match (self.folder, before.zip(after), before) {
            (true, Some((before, after)), _) if before == after => {
                "a folder that is empty now".into()
            }
            (true, Some((before, after)), _) => format!("a folder's mode, {before} to {after}"),
            (true, None, Some(_)) => "an empty folder that is gone".to_owned(),
            (true, None, None) => match after {
                Some(after) => format!("a new folder, {after}"),
                None => "a folder".to_owned(),
            },
            (false, Some((before, after)), _) => format!("its mode, {before} to {after}"),
            (false, None, _) => match after {
                Some(after) => format!("its mode, {after}"),
                None => "its mode".to_owned(),
            },
        }
    }
}
