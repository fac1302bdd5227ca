//! The machine of a cloud thread.
//!
//! A project's own file may make it smaller and its time shorter, and say what is run in it. The
//! hosts of its set-up are the user's to open.

use std::time::Duration;

use stockade_policy::{parse_size, parse_time};

use crate::diagnose::ConfigError;
use crate::network::Opened;
use crate::schema::{Entry, Placed, Reader};

/// `[cloud]`, as far as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudText {
    /// Memory of the machine, in bytes.
    pub memory: Option<u64>,
    /// Its processors.
    pub cpus: Option<u32>,
    /// How large its disk may grow, in bytes.
    pub disk: Option<u64>,
    /// What a thread has.
    pub wall_time: Option<Duration>,
    /// How many machines may run at once.
    pub parallel: Option<u32>,
    /// A script that prepares the machine before the work begins.
    pub setup: Option<String>,
    /// Command lines that are run after it.
    pub checks: Vec<String>,
    /// What a project's own file says where nobody else does: the built-in value, but no more than
    /// this.
    pub at_most: CloudBounds,
}

/// Bounds of built-in values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudBounds {
    /// Memory of the machine, in bytes.
    pub memory: Option<u64>,
    /// Its processors.
    pub cpus: Option<u32>,
    /// How large its disk may grow, in bytes.
    pub disk: Option<u64>,
    /// How many machines may run at once.
    pub parallel: Option<u32>,
}

/// `[cloud]` of one layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CloudSettings {
    pub(crate) memory: Option<Placed<u64>>,
    pub(crate) cpus: Option<Placed<u32>>,
    pub(crate) disk: Option<Placed<u64>>,
    pub(crate) wall_time: Option<Placed<Duration>>,
    pub(crate) parallel: Option<Placed<u32>>,
    pub(crate) setup: Option<Placed<String>>,
    pub(crate) checks: Option<Placed<Vec<String>>>,
    /// Hosts for the script, by the entries of all layers.
    pub(crate) setup_network: Vec<Placed<Opened>>,
    at_most: CloudBounds,
}

impl CloudSettings {
    /// Puts `above` on top.
    pub(crate) fn overlay(mut self, above: Self) -> Self {
        self.setup_network.extend(above.setup_network);
        Self {
            memory: above.memory.or(self.memory),
            cpus: above.cpus.or(self.cpus),
            disk: above.disk.or(self.disk),
            wall_time: above.wall_time.or(self.wall_time),
            parallel: above.parallel.or(self.parallel),
            setup: above.setup.or(self.setup),
            checks: above.checks.or(self.checks),
            setup_network: self.setup_network,
            at_most: self.at_most,
        }
    }

    /// Takes of a project's file what makes less; the places of the rest go to `raised`.
    pub(crate) fn narrow(&mut self, project: Self, raised: &mut Vec<String>) {
        use crate::layer::lower;
        // Where nobody has said anything, a built-in value holds that is not known here.
        fn bound<T: PartialOrd>(
            (old, at_most): (&mut Option<Placed<T>>, &mut Option<T>),
            new: Option<Placed<T>>,
            raised: &mut Vec<String>,
        ) {
            if old.is_some() {
                lower(old, new, raised);
            } else {
                *at_most = new.map(|new| new.value);
            }
        }
        let at_most = &mut self.at_most;
        bound((&mut self.memory, &mut at_most.memory), project.memory, raised);
        bound((&mut self.cpus, &mut at_most.cpus), project.cpus, raised);
        bound((&mut self.disk, &mut at_most.disk), project.disk, raised);
        bound((&mut self.parallel, &mut at_most.parallel), project.parallel, raised);
        lower(&mut self.wall_time, project.wall_time, raised);
        // They run in the machine, which is there for what the project says.
        self.setup = project.setup.or(self.setup.take());
        self.checks = project.checks.or(self.checks.take());
    }

    pub(crate) fn text(&self) -> CloudText {
        fn value<T: Clone>(setting: Option<&Placed<T>>) -> Option<T> {
            setting.map(|setting| setting.value.clone())
        }
        CloudText {
            memory: value(self.memory.as_ref()),
            cpus: value(self.cpus.as_ref()),
            disk: value(self.disk.as_ref()),
            wall_time: value(self.wall_time.as_ref()),
            parallel: value(self.parallel.as_ref()),
            setup: value(self.setup.as_ref()),
            checks: value(self.checks.as_ref()).unwrap_or_default(),
            at_most: self.at_most.clone(),
        }
    }
}

impl Reader<'_> {
    pub(crate) fn cloud(&mut self, (key, value): Entry<'_>) -> Result<(), ConfigError> {
        let size = |reader: &Self| {
            let size = parse_size(&reader.string(value)?);
            let size = size.map_err(|error| reader.wrong_value(value, error.expected))?;
            Ok(Some(reader.placed(value.span(), size)))
        };
        match key.get_ref().as_ref() {
            "memory" => self.settings.cloud.memory = size(self)?,
            "disk" => self.settings.cloud.disk = size(self)?,
            "cpus" => {
                let number =
                    self.whole_number(value, 255, "a number of processors from 1 to 255")?;
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.settings.cloud.cpus = Some(self.placed(value.span(), number));
            }
            "wall_time" => {
                let time = parse_time(&self.string(value)?);
                let time = time.map_err(|error| self.wrong_value(value, error.expected))?;
                self.settings.cloud.wall_time = Some(self.placed(value.span(), time));
            }
            "parallel" => {
                let number = self.whole_number(value, 64, "a number of machines from 1 to 64")?;
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.settings.cloud.parallel = Some(self.placed(value.span(), number));
            }
            "setup" => {
                let script = self.string(value)?;
                self.settings.cloud.setup = Some(self.placed(value.span(), script));
            }
            "checks" => {
                let lines = self.strings(value)?.into_iter().map(|line| line.value).collect();
                self.settings.cloud.checks = Some(self.placed(value.span(), lines));
            }
            "setup_network" => self.settings.cloud.setup_network = self.opened(value)?,
            _ => return Err(self.unknown(key, "cloud")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Layer, Source};
    use crate::schema::{Settings, read as read_source};

    fn read(text: &str, layer: Layer) -> Result<Settings, ConfigError> {
        read_source(&Source { name: "config.toml".into(), text: text.to_owned(), layer })
    }

    #[test]
    fn a_project_makes_its_machine_smaller_and_no_larger() {
        let user = read(
            "[cloud]\nmemory = '2G'\ncpus = 2\nwall_time = '1h'\nsetup_network = ['registries']",
            Layer::User,
        )
        .unwrap();
        let project = read(
            "[cloud]\nmemory = '4G'\ncpus = 1\ndisk = '1G'\nsetup_network = ['a.org']\n\
             checks = ['make']\nparallel = 3",
            Layer::Project,
        );
        let cloud = user.narrow(project.unwrap());
        let text = cloud.cloud.text();
        assert_eq!((text.memory, text.cpus, text.disk), (Some(2 << 30), Some(1), None));
        assert_eq!(text.wall_time, Some(Duration::from_hours(1)));
        let opened = cloud.cloud.setup_network.iter().map(|entry| entry.value.text.as_str());
        assert_eq!(opened.collect::<Vec<_>>(), ["registries"]);
        assert_eq!((text.checks, text.parallel), (vec!["make".to_owned()], None));
        // The built-in values stay, and may become less.
        let bounds =
            CloudBounds { disk: Some(1 << 30), parallel: Some(3), ..CloudBounds::default() };
        assert_eq!(text.at_most, bounds);
        for words in ["raise a limit", "open the network"] {
            assert!(cloud.warnings.iter().any(|it| it.contains(words)), "{:?}", cloud.warnings);
        }
        for wrong in ["setup_network = ['a b']", "cpus = 0", "memory = 'much'", "memorry = '1G'"] {
            read(&format!("[cloud]\n{wrong}"), Layer::User).unwrap_err();
        }
    }
}
