//! The memory of symbolic tensors: handles and views that see each other's changes.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::Flow;

/// The memory that handles of one tensor share.
pub(super) struct Memory {
    /// The tensor's flow; `None` after an error.
    flow: RefCell<Option<Flow>>,
    storage: Rc<Storage>,
}

/// The elements that several views share.
#[derive(Default)]
struct Storage {
    views: RefCell<Vec<Weak<Memory>>>,
    /// Whether a view covers only some of the elements.
    has_parts: Cell<bool>,
}

/// Which elements of a tensor a view covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewOf {
    /// All elements.
    All,
    /// Some elements; or all, possibly as a copy, depending on the layout that is asked for.
    Some,
}

impl Memory {
    /// The memory of a new tensor.
    pub(super) fn new(flow: Option<Flow>) -> Rc<Self> {
        Self::on(Rc::default(), flow)
    }

    /// The memory of a view of this tensor.
    pub(super) fn view(&self, flow: Option<Flow>, of: ViewOf) -> Rc<Self> {
        if of == ViewOf::Some {
            self.storage.has_parts.set(true);
        }
        Self::on(Rc::clone(&self.storage), flow)
    }

    fn on(storage: Rc<Storage>, flow: Option<Flow>) -> Rc<Self> {
        let memory = Rc::new(Memory { flow: RefCell::new(flow), storage });
        memory.storage.views.borrow_mut().push(Rc::downgrade(&memory));
        memory
    }

    pub(super) fn flow(&self) -> Option<Flow> {
        self.flow.borrow().clone()
    }

    pub(super) fn set(&self, flow: Option<Flow>) {
        *self.flow.borrow_mut() = flow;
    }

    /// The live views of these elements, this one included.
    pub(super) fn views(&self) -> Vec<Rc<Memory>> {
        self.storage.views.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether a view of these elements covers only some of them.
    pub(super) fn has_parts(&self) -> bool {
        self.storage.has_parts.get()
    }
}
