//! The memory of symbolic tensors: handles and views that see each other's changes.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::Flow;

/// What a handle of a tensor refers to.
pub(super) struct Memory {
    /// `None` after an error.
    flow: RefCell<Option<Flow>>,
    storage: Rc<Storage>,
}

/// The elements that several views share.
#[derive(Default)]
struct Storage {
    views: RefCell<Vec<Weak<Memory>>>,
    /// Whether a view has some of the elements only.
    has_parts: Cell<bool>,
}

/// How a view sees the tensor that it is a view of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewOf {
    /// All of its elements.
    All,
    /// Some of them, or a copy where that is the layout that is asked for.
    Some,
}

impl Memory {
    /// Of a new tensor.
    pub(super) fn new(flow: Option<Flow>) -> Rc<Self> {
        Self::on(Rc::default(), flow)
    }

    /// Of a view.
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

    /// The views that share these elements and are still alive, this one among them.
    pub(super) fn views(&self) -> Vec<Rc<Memory>> {
        self.storage.views.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether some view that shares elements has not all of them.
    pub(super) fn has_parts(&self) -> bool {
        self.storage.has_parts.get()
    }
}
