//! The user's own recipes of agents: `agents/NAME.toml` beside the configuration. A project has none.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::diagnose::ConfigError;
use crate::env::Env;

impl Env {
    /// The files of the user's recipes, in the order of their names, with their text.
    ///
    /// # Errors
    ///
    /// The first that cannot be read.
    pub fn recipe_files(&self) -> Result<Vec<(PathBuf, String)>, ConfigError> {
        let Some(folder) = self.user_folder().map(|folder| folder.join("agents")) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| ConfigError::Unreadable(folder.clone(), error))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path =
                entry.map_err(|error| ConfigError::Unreadable(folder.clone(), error))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path);
                let text = text.map_err(|error| ConfigError::Unreadable(path.clone(), error))?;
                files.push((path, text));
            }
        }
        files.sort();
        Ok(files)
    }
}
