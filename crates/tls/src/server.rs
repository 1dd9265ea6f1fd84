//! A port's certificate, reloaded when its files change.
//!
//! The files are checked when a client connects, at most once per [`LOOK_PERIOD`], rather than watched, for the reasons in
//! `sortie_watched`. Nobody sees the old certificate for longer, because only connecting clients see one.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sortie_watched::Stamp;

use crate::files::{CertificateFiles, FileError, Pair};

/// Minimum time between two checks of the files.
pub const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Application protocols, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a port serves with the certificate in `files`: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. Changed files are
/// reloaded; while they do not match, the last valid pair stays, and the log says why.
///
/// # Errors
/// [`FileError`] if the files are unusable now.
pub fn server_config(files: CertificateFiles) -> Result<Arc<ServerConfig>, FileError> {
    // Before the content, so that changes during the read are noticed.
    let stamps = files.stamps();
    let pair = files.load()?;
    tell(&files, &pair);
    let state = State { looked: Instant::now(), stamps, key: pair.key };
    let resolver = Arc::new(Resolver { files, state: Mutex::new(state) });
    let builder = ServerConfig::builder_with_provider(crate::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(FileError::Library)?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// Gives each connection the newest certificate.
#[derive(Debug)]
struct Resolver {
    files: CertificateFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    /// Of the files as last read, valid or not.
    stamps: [Option<Stamp>; 2],
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_PERIOD {
            state.look(&self.files);
        }
        Some(Arc::clone(&state.key))
    }
}

impl State {
    fn look(&mut self, files: &CertificateFiles) {
        self.look_and(files, CertificateFiles::load);
    }

    fn look_and(
        &mut self,
        files: &CertificateFiles,
        load: impl FnOnce(&CertificateFiles) -> Result<Pair, FileError>,
    ) {
        self.looked = Instant::now();
        let stamps = files.stamps();
        if stamps == self.stamps {
            return;
        }
        let loaded = load(files);
        // A file that exists and could not be read, e.g. for lack of a descriptor, is read again.
        let unread = matches!(&loaded, Err(FileError::Unreadable { error, .. }) if error.kind() != ErrorKind::NotFound);
        if !unread {
            self.stamps = stamps;
        }
        match loaded {
            Ok(pair) => {
                tell(files, &pair);
                self.key = pair.key;
            }
            Err(problem) => {
                tracing::error!(%problem, "the changed TLS certificate is unusable; the old one stays in use");
            }
        }
    }
}

fn tell(files: &CertificateFiles, pair: &Pair) {
    tracing::info!(certificate = %files.certificate.display(), "read the TLS certificate");
    if let Some(warning) = pair.expiry.warning(SystemTime::now()) {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::Path;

    use rcgen::CertifiedKey as Made;
    use tempfile::TempDir;

    use super::*;

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn write(folder: &Path, (certificate, key): &(String, String)) {
        fs::write(folder.join("tls.crt"), certificate).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
    }

    fn files(folder: &Path) -> CertificateFiles {
        CertificateFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") }
    }

    fn start(folder: &Path) -> (CertificateFiles, State) {
        let files = files(folder);
        let state = State { looked: Instant::now(), stamps: files.stamps(), key: files.load().unwrap().key };
        (files, state)
    }

    #[test]
    fn an_overwritten_pair_is_loaded_and_half_of_one_is_not() {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &made());
        let (files, mut state) = start(folder.path());
        let first = Arc::clone(&state.key);
        state.look(&files);
        assert!(Arc::ptr_eq(&state.key, &first), "nothing changed");

        let (certificate, key) = made();
        fs::write(&files.certificate, certificate).unwrap();
        state.look(&files);
        assert!(Arc::ptr_eq(&state.key, &first), "the key is still that of the old certificate");
        fs::remove_file(&files.key).unwrap();
        state.look(&files);
        assert!(Arc::ptr_eq(&state.key, &first), "the key is missing right now");
        fs::write(&files.key, key).unwrap();
        state.look(&files);
        assert_ne!(state.key.cert, first.cert);
    }

    #[test]
    fn a_pair_of_the_same_size_and_modification_time_is_noticed() {
        let folder = TempDir::new().unwrap();
        let old = made();
        write(folder.path(), &old);
        let (files, mut state) = start(folder.path());
        let paths = [&files.certificate, &files.key];
        let before = paths.map(|path| fs::metadata(path).unwrap());
        let changed = |found: &fs::Metadata| (found.ctime(), found.ctime_nsec());
        let sizes = (old.0.len(), old.1.len());
        // Signatures have a byte more or less.
        let same_size = |new: &(String, String)| (new.0.len(), new.1.len()) == sizes;
        let new = std::iter::repeat_with(made).find(same_size).unwrap();
        // The system's time of a change is coarse: until it differs, the files are still being written.
        while paths
            .iter()
            .zip(&before)
            .any(|(path, before)| changed(&fs::metadata(path).unwrap()) == changed(before))
        {
            write(folder.path(), &new);
            for (path, before) in paths.iter().zip(&before) {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(before.modified().unwrap()).unwrap();
            }
        }
        let first = Arc::clone(&state.key);
        state.look(&files);
        assert_ne!(state.key.cert, first.cert);
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &made());
        let files = files(folder.path());
        fs::remove_file(&files.key).unwrap();
        symlink("/dev/zero", &files.key).unwrap();
        let error = files.check().unwrap_err();
        assert!(error.to_string().ends_with("it is not a regular file"), "{error}");
    }

    #[test]
    fn files_that_could_not_be_read_once_are_read_again() {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &made());
        let (files, mut state) = start(folder.path());
        let first = Arc::clone(&state.key);
        write(folder.path(), &made());
        state.look_and(&files, |files| {
            let error = std::io::Error::other("no descriptor is left");
            Err(FileError::Unreadable { path: files.key.clone(), error })
        });
        assert!(Arc::ptr_eq(&state.key, &first));
        state.look(&files);
        assert_ne!(state.key.cert, first.cert);
    }

    #[test]
    fn a_link_that_is_turned_is_noticed() {
        // Like Kubernetes: files are links through `..data`, which is a link that is replaced by a rename.
        let folder = TempDir::new().unwrap();
        let [old, new] = ["..1", "..2"].map(|name| folder.path().join(name));
        for version in [&old, &new] {
            fs::create_dir(version).unwrap();
            write(version, &made());
        }
        symlink(&old, folder.path().join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), folder.path().join(name)).unwrap();
        }
        let (files, mut state) = start(folder.path());
        let first = Arc::clone(&state.key);
        symlink(&new, folder.path().join("..tmp")).unwrap();
        fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).unwrap();
        state.look(&files);
        assert_ne!(state.key.cert, first.cert);
    }
}
