//! What servers may be launched with. In memory only: clients register profiles after each start of the sidecar.

use std::collections::BTreeMap;

use tonic::Code;

use super::messages::ServerProfile;
use crate::http_answer::Refused;
use crate::manager::MAX_ID_BYTES;

/// Maximum number of profiles.
pub const MAX_PROFILES: usize = 256;
/// Maximum length of a profile's command and arguments together, in bytes.
pub const MAX_PROFILE_BYTES: usize = 32 << 10;

/// By id.
#[derive(Default)]
pub(super) struct Profiles(BTreeMap<String, ServerProfile>);

impl Profiles {
    /// Registers all of `profiles`, replacing those with the same id, or none.
    pub(super) fn register(&mut self, profiles: Vec<ServerProfile>) -> Result<(), Refused> {
        for (index, profile) in profiles.iter().enumerate() {
            check(profile)
                .map_err(|(field, problem)| Refused::field(&format!("profiles[{index}].{field}"), problem))?;
        }
        let mut next = self.0.clone();
        next.extend(profiles.into_iter().map(|profile| (profile.profile_id.clone(), profile)));
        if next.len() > MAX_PROFILES {
            let text = format!("too many profiles: at most {MAX_PROFILES} are kept");
            return Err(Refused::new(Code::ResourceExhausted, "too_many", text));
        }
        self.0 = next;
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<ServerProfile> {
        self.0.values().cloned().collect()
    }

    pub(super) fn get(&self, id: &str) -> Result<ServerProfile, Refused> {
        self.0.get(id).cloned().ok_or_else(|| {
            Refused::new(Code::NotFound, "not_found", format!("no profile {id:?} is registered"))
        })
    }
}

/// The invalid field and its problem.
fn check(profile: &ServerProfile) -> Result<(), (&'static str, String)> {
    let ServerProfile { profile_id, command, args, remote } = profile;
    let is_id =
        |id: &str| (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_id(profile_id) {
        let problem = format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters without spaces");
        return Err(("profileId", problem));
    }
    if command.is_empty() {
        return Err(("command", "must be given: the program to start".to_owned()));
    }
    if command.contains('\0') {
        return Err(("command", "must not contain a NUL byte".to_owned()));
    }
    if !remote.is_empty() {
        let problem = "must be empty: this sidecar launches servers on its own machine only";
        return Err(("remote", problem.to_owned()));
    }
    check_arguments(args).map_err(|problem| ("args", problem))?;
    if command.len() + bytes(args) > MAX_PROFILE_BYTES {
        return Err(("args", format!("are longer than {MAX_PROFILE_BYTES} bytes together with the command")));
    }
    Ok(())
}

/// The problem with a program's arguments, if any.
pub(super) fn check_arguments(args: &[String]) -> Result<(), String> {
    if args.iter().any(|argument| argument.contains('\0')) {
        return Err("must not contain a NUL byte".to_owned());
    }
    if bytes(args) > MAX_PROFILE_BYTES {
        return Err(format!("are longer than {MAX_PROFILE_BYTES} bytes"));
    }
    Ok(())
}

/// Each counts one extra byte, so that empty ones are limited as well.
fn bytes(args: &[String]) -> usize {
    args.iter().map(|argument| argument.len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: &str) -> ServerProfile {
        ServerProfile { profile_id: id.into(), command: "/bin/true".into(), ..ServerProfile::default() }
    }

    #[test]
    fn a_profile_replaces_one_with_the_same_id() {
        let mut profiles = Profiles::default();
        profiles.register(vec![profile("b"), profile("a")]).unwrap();
        let other = ServerProfile { command: "/bin/false".into(), ..profile("a") };
        profiles.register(vec![other.clone()]).unwrap();
        assert_eq!(profiles.all(), [other.clone(), profile("b")]);
        assert_eq!(profiles.get("a"), Ok(other));
        assert!(profiles.get("c").is_err());
    }

    #[test]
    fn all_of_them_or_none() {
        let mut profiles = Profiles::default();
        let bad = [
            ServerProfile { remote: "10.0.0.1".into(), ..profile("x") },
            ServerProfile { command: String::new(), ..profile("x") },
            ServerProfile { command: "a\0b".into(), ..profile("x") },
            ServerProfile { args: vec!["a\0b".into()], ..profile("x") },
            ServerProfile { args: vec!["y".repeat(MAX_PROFILE_BYTES)], ..profile("x") },
            ServerProfile { args: vec!["y".repeat(MAX_PROFILE_BYTES - 8)], ..profile("x") },
            ServerProfile { args: vec![String::new(); MAX_PROFILE_BYTES + 1], ..profile("x") },
            profile(""),
            profile("a b"),
            profile(&"x".repeat(MAX_ID_BYTES + 1)),
        ];
        for bad in bad {
            assert!(profiles.register(vec![profile("good"), bad.clone()]).is_err(), "{bad:?}");
            assert!(profiles.all().is_empty());
        }
    }

    #[test]
    fn there_is_a_most_of_them() {
        let mut profiles = Profiles::default();
        let many = |count: usize| (0..count).map(|number| profile(&format!("p{number}"))).collect();
        assert!(profiles.register(many(MAX_PROFILES + 1)).is_err());
        profiles.register(many(MAX_PROFILES)).unwrap();
        profiles.register(many(3)).unwrap();
        assert!(profiles.register(vec![profile("one-more")]).is_err());
        assert_eq!(profiles.all().len(), MAX_PROFILES);
    }
}
