//! The platforms that fleets can run on: each has a module here, with everything that the configuration knows about it,
//! and a line in [`PLATFORMS`].

mod local_process;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Table;

use crate::keys::KeyDoc;
use crate::model::{Config, FleetConfig};
use crate::section::Section;

pub use self::local_process::LocalProcessConfig;

/// Every platform, in the order of the documentation.
pub(crate) const PLATFORMS: &[Platform] = &[local_process::PLATFORM];

/// Their names.
pub(crate) const NAMES: &[&str] = &names();

/// One platform, as the configuration sees it.
#[derive(Clone, Copy)]
pub(crate) struct Platform {
    /// The value of `allocator`; the platform's settings are in the table of that name.
    pub(crate) name: &'static str,
    /// The keys of that table, as `fleets.<name>.…`.
    pub(crate) keys: &'static [KeyDoc],
    /// Reads that table, for a fleet with at most this many servers; `None` if a problem was reported.
    pub(crate) read: fn(&Section<'_>, Option<u32>) -> Option<AllocatorConfig>,
    /// Reports conflicts between fleets below the section `fleets`.
    pub(crate) warn_together: fn(&Section<'_>, &[FleetConfig]),
}

/// The settings of one fleet on a platform.
pub(crate) trait PlatformSettings: Any + Same + fmt::Debug + Send + Sync {
    /// The platform's name.
    fn platform(&self) -> &'static str;

    /// The settings as TOML that reads back as the same, secrets hidden.
    fn show(&self) -> Table;

    /// What operators may see of them through the API: no secrets.
    fn describe(&self) -> Map<String, Value>;

    /// A server older than this is stopped. Its key is `max_run_time`.
    fn max_run_time(&self) -> Option<Duration> {
        None
    }

    /// The requirements of the fleet's own servers, if the settings contain them: JMESPath over the match document.
    fn server_requirements(&self) -> Option<&str> {
        None
    }

    /// Reports conflicts with the rest of the configuration below `top`.
    fn warn(&self, _top: &Section<'_>, _config: &Config, _fleet: &FleetConfig) {}
}

/// Equality of settings whose types are not known.
pub(crate) trait Same {
    fn is_same(&self, other: &dyn Any) -> bool;
}

impl<T: PartialEq + Any> Same for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }
}

/// The platform that runs a fleet's servers, and how.
#[derive(Clone)]
pub struct AllocatorConfig(Arc<dyn PlatformSettings>);

impl AllocatorConfig {
    pub(crate) fn of(settings: impl PlatformSettings) -> Self {
        Self(Arc::new(settings))
    }

    /// The platform's name, one of [`platform_names`].
    #[must_use]
    pub fn platform(&self) -> &'static str {
        self.0.platform()
    }

    /// The settings, if they are of this type, e.g. [`LocalProcessConfig`] for the platform `local_process`.
    #[must_use]
    pub fn settings<T: 'static>(&self) -> Option<&T> {
        let settings: &dyn Any = &*self.0;
        settings.downcast_ref()
    }

    /// A server older than this is stopped by its platform.
    #[must_use]
    pub fn max_run_time(&self) -> Option<Duration> {
        self.0.max_run_time()
    }

    pub(crate) fn show(&self) -> Table {
        self.0.show()
    }

    pub(crate) fn describe(&self) -> Map<String, Value> {
        self.0.describe()
    }

    pub(crate) fn server_requirements(&self) -> Option<&str> {
        self.0.server_requirements()
    }

    pub(crate) fn warn(&self, top: &Section<'_>, config: &Config, fleet: &FleetConfig) {
        self.0.warn(top, config, fleet);
    }
}

impl PartialEq for AllocatorConfig {
    fn eq(&self, other: &Self) -> bool {
        let other: &dyn Any = &*other.0;
        self.0.is_same(other)
    }
}

impl Eq for AllocatorConfig {}

impl fmt::Debug for AllocatorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The names of the platforms in this build.
#[must_use]
pub fn platform_names() -> &'static [&'static str] {
    NAMES
}

const fn names() -> [&'static str; PLATFORMS.len()] {
    let mut names = [""; PLATFORMS.len()];
    let mut at = 0;
    while at < PLATFORMS.len() {
        names[at] = PLATFORMS[at].name;
        at += 1;
    }
    names
}
