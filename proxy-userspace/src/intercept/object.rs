//! The eBPF object: finds it, loads it, and gives access to its parts.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError, MapFd};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use proxy_ebpf::{Original, Tuple};

use super::attach::{self, Links, Refusal};
use super::cgroup::Cgroup;
use super::error::InterceptError;
use super::logs::Forwarder;
use super::options::InterceptOptions;
use super::original_dsts::OriginalDsts;
use super::owners::Owners;
use super::scope::HOLES;
use super::wire::Wire;
use super::{Fail, capabilities, sys};

/// The object this weir was built with.
static BUILT_IN: &[u8] = include_bytes_aligned!("../../../proxy-ebpf/prebuilt/weir.bpf.o");

/// Names another object: one built with log lines, or rebuilt by a test.
const OVERRIDE: &str = "WEIR_BPF_OBJECT";

/// A loaded object whose programs are not attached yet.
pub(super) struct Object {
    ebpf: Ebpf,
    path: Option<PathBuf>,
    hooks: &'static [attach::Hook],
    refusal: Refusal,
}

impl Object {
    /// Loads the object; the options set the size of its maps.
    pub(super) fn load(options: &InterceptOptions) -> Result<Self, InterceptError> {
        let missing = capabilities::missing();
        if !missing.is_empty() {
            return Err(InterceptError::Capability { missing });
        }
        let path = std::env::var_os(OVERRIDE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let bytes = read(path.as_deref())?;
        let closed = u8::from(options.fail == Fail::Closed);
        let mut loader = EbpfLoader::new();
        loader
            // The programs do not depend on the layout of kernel types.
            .btf(None)
            .override_global("FAIL_CLOSED", &closed, true)
            .map_max_entries("REFUSED", options.destinations)
            .map_max_entries("SCOPE", options.destinations.saturating_add(2 * HOLES));
        // The kernel allocates much of a map beforehand, also of one that is not used.
        match options.pods {
            None => ["NUMBERS", "DIALLED_BY_NUMBER", "OWN", "POD_OF", "LISTENERS", "WIRE_SOURCES", "CALLERS"]
                .into_iter()
                .fold(loader.map_max_entries("TUPLES", options.tuples), |loader, name| {
                    loader.map_max_entries(name, 1)
                }),
            Some(_) => loader
                .map_max_entries("TUPLES", 1)
                .map_max_entries("NUMBERS", options.destinations)
                .map_max_entries("DIALLED_BY_NUMBER", options.destinations),
        };
        let mut ebpf = loader.load(&bytes).map_err(|error| InterceptError::load(path.as_deref(), error))?;
        let hooks = attach::hooks(options.pods.is_some());
        let refusal = attach::load(&mut ebpf, hooks, options.fail)?;
        Ok(Self { ebpf, path, hooks, refusal })
    }

    /// Takes a map with the type it is used as.
    pub(super) fn map<T: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<T, InterceptError> {
        let map = self.take(name)?;
        T::try_from(map).map_err(|error| self.foreign(format!("map {name}: {error}")))
    }

    /// The listener's slot.
    pub(super) fn slot(&mut self) -> Result<OwnedFd, InterceptError> {
        match self.take("LISTENER")? {
            Map::SockMap(map) if map.info().is_ok_and(|info| info.value_size() == 8) => clone(map.fd()),
            _ => Err(self.foreign("map LISTENER is not a socket map with values of 8 bytes".to_owned())),
        }
    }

    /// A descriptor of a map, which stays.
    pub(super) fn descriptor(&self, name: &str) -> Result<OwnedFd, InterceptError> {
        let map = self.ebpf.map(name).ok_or_else(|| self.foreign(format!("it has no map {name}")))?;
        clone(match map {
            Map::Array(map) | Map::HashMap(map) | Map::PerCpuArray(map) | Map::SockHash(map) => map.fd(),
            Map::LpmTrie(map) => map.fd(),
            _ => return Err(self.foreign(format!("map {name} is of another type"))),
        })
    }

    /// The object itself.
    pub(super) fn bytes(&self) -> Result<Cow<'static, [u8]>, InterceptError> {
        read(self.path.as_deref())
    }

    /// The heartbeat map.
    pub(super) fn heart(&mut self) -> Result<OwnedFd, InterceptError> {
        match self.take("HEART")? {
            Map::Array(map) if map.info().is_ok_and(|info| info.value_size() == 8) => clone(map.fd()),
            _ => Err(self.foreign("map HEART is not an array with values of 8 bytes".to_owned())),
        }
    }

    /// The entries of diverted connections.
    pub(super) fn original_dsts(&mut self, owners: Owners) -> Result<OriginalDsts, InterceptError> {
        let Some(Map::LruHashMap(map)) = self.ebpf.map("TUPLES") else {
            return Err(self.foreign("map TUPLES is not an LRU hash map".to_owned()));
        };
        let fd = clone(map.fd())?;
        sys::can_take(fd.as_fd()).map_err(InterceptError::lacks("look-up-and-delete of LRU maps"))?;
        // Only checks the sizes of keys and values: aya lacks the operations that are needed on this map.
        let _: HashMap<MapData, Wire<Tuple>, Wire<Original>> = self.map("TUPLES")?;
        Ok(OriginalDsts::new(fd, owners))
    }

    /// What happens to connections that weir cannot take.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Attaches the loaded programs.
    pub(super) fn attach(&mut self, cgroup: &Cgroup) -> Result<Links, InterceptError> {
        Links::attach(&mut self.ebpf, self.hooks, self.refusal, cgroup)
    }

    /// Forwards the log lines of a debug object to weir's log.
    pub(super) fn logs(&mut self) -> Result<Forwarder, InterceptError> {
        Forwarder::start(&mut self.ebpf)
    }

    fn take(&mut self, name: &str) -> Result<Map, InterceptError> {
        self.ebpf.take_map(name).ok_or_else(|| self.foreign(format!("it has no map {name}")))
    }

    pub(super) fn foreign(&self, cause: String) -> InterceptError {
        InterceptError::Object { path: self.path.clone(), cause }
    }
}

/// The object at `path`, or the built-in one.
fn read(path: Option<&Path>) -> Result<Cow<'static, [u8]>, InterceptError> {
    let Some(path) = path else { return Ok(Cow::Borrowed(BUILT_IN)) };
    std::fs::read(path)
        .map(Cow::Owned)
        .map_err(|error| InterceptError::Object { path: Some(path.to_owned()), cause: error.to_string() })
}

fn clone(fd: &MapFd) -> Result<OwnedFd, InterceptError> {
    fd.as_fd().try_clone_to_owned().map_err(InterceptError::kernel("dup"))
}

#[cfg(test)]
mod tests {
    use super::BUILT_IN;

    /// Otherwise Linux 6.1 rejects them for weir in its pod, which has no CAP_PERFMON: `maps.rs` of the programs says
    /// why.
    #[test]
    fn the_programs_write_to_their_stack_in_words_of_eight_bytes() {
        const STORES: [u8; 2] = [2, 3]; // BPF_ST and BPF_STX.
        const EIGHT_BYTES: u8 = 0x18; // BPF_DW.
        const STACK: u8 = 10;
        let object = aya_obj::Object::parse(BUILT_IN).unwrap();
        let (mut stores, mut shorter) = (0, Vec::new());
        for function in object.functions.values() {
            for (at, instruction) in function.instructions.iter().enumerate() {
                if STORES.contains(&(instruction.code & 7)) && instruction.dst_reg() == STACK {
                    stores += 1;
                    if instruction.code & EIGHT_BYTES != EIGHT_BYTES {
                        shorter.push(format!("{} at {at}", function.name));
                    }
                }
            }
        }
        assert!(stores > 0 && shorter.is_empty(), "of {stores}, not of eight bytes: {shorter:?}");
    }
}
