//! The calls of the shim, `shim/distributed.cpp`: the crate's only unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_double, c_int};
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

#[repr(C)]
struct RawStore {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawReducer {
    _opaque: [u8; 0],
}

// The build script links the shim; with `doc-only` there is none.
unsafe extern "C" {
    fn slim_free_text(text: *mut c_char);
    fn slim_store_new(
        host: *const c_char,
        port: c_int,
        is_server: bool,
        timeout_ms: i64,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn slim_store_free(store: *mut RawStore);
    fn slim_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
    ) -> *mut c_char;
    fn slim_store_get(
        store: *mut RawStore,
        key: *const c_char,
        out: *mut *mut c_char,
    ) -> *mut c_char;
    fn slim_group_new(
        store: *mut RawStore,
        prefix: *const c_char,
        rank: c_int,
        world_size: c_int,
        timeout_ms: i64,
        device: c_int,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn slim_group_free(group: *mut RawGroup);
    fn slim_barrier(group: *mut RawGroup) -> *mut c_char;
    fn slim_broadcast(
        group: *mut RawGroup,
        tensors: *const *const C_tensor,
        count: usize,
        root: c_int,
    ) -> *mut c_char;
    fn slim_all_reduce(
        group: *mut RawGroup,
        tensors: *const *const C_tensor,
        count: usize,
        op: c_int,
        scale: c_double,
    ) -> *mut c_char;
    fn slim_all_gather(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        out: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    fn slim_sum(
        group: *mut RawGroup,
        tensor: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn slim_reducer_new(
        group: *mut RawGroup,
        parameters: *const *const C_tensor,
        count: usize,
        bucket_bytes: i64,
        find_unused: bool,
        out: *mut *mut RawReducer,
    ) -> *mut c_char;
    fn slim_reducer_free(reducer: *mut RawReducer);
    fn slim_reducer_lost(reducer: *mut RawReducer, out: *mut usize) -> *mut c_char;
    fn slim_reducer_before_forward(reducer: *mut RawReducer) -> *mut c_char;
    fn slim_reducer_before_backward(
        reducer: *mut RawReducer,
        output: *const C_tensor,
    ) -> *mut c_char;
    fn slim_reducer_times(reducer: *mut RawReducer, out: *mut i64) -> *mut c_char;
}

/// `Err` with libtorch's words, on one line.
type Result<T = ()> = std::result::Result<T, String>;

fn checked(message: *mut c_char) -> Result {
    match taken(message) {
        None => Ok(()),
        Some(words) => {
            let words: Vec<&str> = words.split_whitespace().collect();
            Err(words.join(" "))
        }
    }
}

/// Calls a function of the shim that makes something.
fn made<T>(call: impl FnOnce(*mut *mut T) -> *mut c_char) -> Result<NonNull<T>> {
    let mut out = null_mut();
    checked(call(&raw mut out))?;
    NonNull::new(out).ok_or_else(|| "there is no memory for it".to_owned())
}

/// A text of the shim, which is freed.
fn taken(text: *mut c_char) -> Option<String> {
    let text = NonNull::new(text)?;
    // SAFETY: the shim's texts end with zero, and are the caller's to free.
    unsafe {
        let copy = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
        slim_free_text(text.as_ptr());
        Some(copy)
    }
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| format!("{text:?} contains a zero"))
}

fn millis(timeout: Duration) -> i64 {
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).min(i64::from(i32::MAX))
}

fn pointers(tensors: &[Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

fn int(number: usize) -> Result<c_int> {
    c_int::try_from(number).map_err(|_| format!("{number} processes are too many"))
}

/// A key-value store on one of the machines.
#[derive(Debug)]
pub(crate) struct Store(NonNull<RawStore>);

impl Store {
    /// Connects to the store, or serves it.
    pub(crate) fn new(host: &str, port: u16, is_server: bool, timeout: Duration) -> Result<Self> {
        let host = text(host)?;
        // SAFETY: the shim copies the name.
        made(|out| unsafe {
            slim_store_new(host.as_ptr(), port.into(), is_server, millis(timeout), out)
        })
        .map(Self)
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result {
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: the store is alive; the shim copies both texts.
        checked(unsafe { slim_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// The value of a key, if there is one already.
    pub(crate) fn get(&self, key: &str) -> Result<Option<String>> {
        let key = text(key)?;
        let mut value = null_mut();
        // SAFETY: the store is alive; the value is a text of the shim.
        checked(unsafe { slim_store_get(self.0.as_ptr(), key.as_ptr(), &raw mut value) })?;
        Ok(taken(value))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: nothing uses it after this; a group keeps the store itself alive.
        unsafe { slim_store_free(self.0.as_ptr()) }
    }
}

/// The processes, by which collectives run.
#[derive(Debug)]
pub(crate) struct Group(NonNull<RawGroup>);

impl Group {
    pub(crate) fn new(
        store: &Store,
        prefix: &str,
        (rank, world_size): (usize, usize),
        timeout: Duration,
        gpu: Option<usize>,
    ) -> Result<Self> {
        let prefix = text(prefix)?;
        let (rank, world_size) = (int(rank)?, int(world_size)?);
        let gpu = gpu.map_or(Ok(-1), int)?;
        // SAFETY: the store is alive; the group holds a reference of its own to it.
        made(|out| unsafe {
            slim_group_new(
                store.0.as_ptr(),
                prefix.as_ptr(),
                rank,
                world_size,
                millis(timeout),
                gpu,
                out,
            )
        })
        .map(Self)
    }

    pub(crate) fn barrier(&self) -> Result {
        // SAFETY: the group is alive.
        checked(unsafe { slim_barrier(self.0.as_ptr()) })
    }

    /// Writes the values of the tensors of `root` into those of all others.
    pub(crate) fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result {
        let (all, root) = (pointers(tensors), int(root)?);
        // SAFETY: group and tensors are alive.
        checked(unsafe { slim_broadcast(self.0.as_ptr(), all.as_ptr(), all.len(), root) })
    }

    /// Reduces each tensor in place; `op` is 0 for the sum, 1 for the minimum, 2 for the maximum.
    pub(crate) fn all_reduce(&self, tensors: &[Tensor], op: c_int, scale: f64) -> Result {
        let all = pointers(tensors);
        // SAFETY: group and tensors are alive.
        checked(unsafe { slim_all_reduce(self.0.as_ptr(), all.as_ptr(), all.len(), op, scale) })
    }

    /// Writes the tensor of each process into one of `out`.
    pub(crate) fn all_gather(&self, tensor: &Tensor, out: &[Tensor]) -> Result {
        let all = pointers(out);
        // SAFETY: group and tensors are alive.
        checked(unsafe {
            slim_all_gather(self.0.as_ptr(), tensor.as_ptr(), all.as_ptr(), all.len())
        })
    }

    /// The sum over all processes, through which gradients flow.
    pub(crate) fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        // SAFETY: group and tensor are alive; the node of autograd holds a reference to the group.
        let total = made(|out| unsafe { slim_sum(self.0.as_ptr(), tensor.as_ptr(), out) })?;
        // SAFETY: the shim has allocated it, and hands it over.
        Ok(unsafe { Tensor::from_ptr(total.as_ptr()) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: nothing uses it after this; reducers and autograd hold references of their own.
        unsafe { slim_group_free(self.0.as_ptr()) }
    }
}

/// Averages gradients during `backward`.
#[derive(Debug)]
pub(crate) struct Reducer(NonNull<RawReducer>);

impl Reducer {
    pub(crate) fn new(
        group: &Group,
        parameters: &[Tensor],
        bucket_bytes: i64,
        find_unused: bool,
    ) -> Result<Self> {
        let all = pointers(parameters);
        // SAFETY: group and tensors are alive; the reducer holds references of its own.
        made(|out| unsafe {
            slim_reducer_new(
                group.0.as_ptr(),
                all.as_ptr(),
                all.len(),
                bucket_bytes,
                find_unused,
                out,
            )
        })
        .map(Self)
    }

    /// The first parameter whose gradients no longer come to the reducer, by its number; how many
    /// there are, if all do.
    pub(crate) fn lost(&self) -> Result<usize> {
        let mut lost = 0;
        // SAFETY: the reducer is alive, and the shim writes a number.
        checked(unsafe { slim_reducer_lost(self.0.as_ptr(), &raw mut lost) })?;
        Ok(lost)
    }

    pub(crate) fn before_forward(&self) -> Result {
        // SAFETY: the reducer is alive.
        checked(unsafe { slim_reducer_before_forward(self.0.as_ptr()) })
    }

    /// `output` is searched for the parameters that it depends on.
    pub(crate) fn before_backward(&self, output: Option<&Tensor>) -> Result {
        let output = output.map_or(null(), Tensor::as_ptr);
        // SAFETY: the reducer is alive, and so is the tensor.
        checked(unsafe { slim_reducer_before_backward(self.0.as_ptr(), output) })
    }

    /// Nanoseconds of computation, of communication and of both at once; the number of buckets.
    pub(crate) fn times(&self) -> Result<[i64; 4]> {
        let mut out = [0; 4];
        // SAFETY: the reducer is alive, and the shim writes four numbers.
        checked(unsafe { slim_reducer_times(self.0.as_ptr(), out.as_mut_ptr()) })?;
        Ok(out)
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: nothing uses it after this.
        unsafe { slim_reducer_free(self.0.as_ptr()) }
    }
}
