//! Pages without blocks. Those used lately come first: the system need not find memory for them. What is left over for a whole second
//! goes back to the system.

use super::{PAGE, Page, memory_of};
use std::ptr;

/// So many are kept in any case.
const KEPT: usize = 16;

pub struct EmptyPages {
    /// Those that hold memory, linked through `next`.
    warm: *mut Page,
    /// Those that hold none, or have not been used yet.
    cold: *mut Page,
    warm_count: usize,
    cold_count: usize,
    /// The smallest `warm_count` of this second.
    least: usize,
    looks: u32,
    /// So many warm ones nobody needed.
    surplus: usize,
}

impl Default for EmptyPages {
    fn default() -> Self {
        Self {
            warm: ptr::null_mut(),
            cold: ptr::null_mut(),
            warm_count: 0,
            cold_count: 0,
            least: 0,
            looks: 0,
            surplus: 0,
        }
    }
}

impl EmptyPages {
    pub fn len(&self) -> usize {
        self.warm_count + self.cold_count
    }

    /// # Safety
    /// `page` is a live descriptor, in no list, and none of its blocks is in use.
    pub unsafe fn push(&mut self, page: *mut Page) {
        // SAFETY: the caller's promise.
        unsafe { (*page).next = self.warm };
        self.warm = page;
        self.warm_count += 1;
    }
    /// # Safety
    /// As for [`Self::push`]; and the page's memory has not been used, or was given back.
    pub unsafe fn push_cold(&mut self, page: *mut Page) {
        // SAFETY: the caller's promise.
        unsafe { (*page).next = self.cold };
        self.cold = page;
        self.cold_count += 1;
    }

    pub fn pop(&mut self) -> Option<*mut Page> {
        let page = self.pop_warm();
        if page.is_some() || self.cold.is_null() {
            return page;
        }
        let page = self.cold;
        // SAFETY: the lists link live descriptors.
        self.cold = unsafe { (*page).next };
        self.cold_count -= 1;
        Some(page)
    }
    fn pop_warm(&mut self) -> Option<*mut Page> {
        if self.warm.is_null() {
            return None;
        }
        let page = self.warm;
        // SAFETY: as above.
        self.warm = unsafe { (*page).next };
        self.warm_count -= 1;
        self.least = self.least.min(self.warm_count);
        Some(page)
    }

    /// To be called ten times a second: looks once a second what was not needed.
    pub fn look(&mut self) {
        self.looks += 1;
        if !self.looks.is_multiple_of(10) {
            return;
        }
        self.surplus = self.least.saturating_sub(KEPT);
        self.least = self.warm_count;
    }
    pub fn surplus(&self) -> usize {
        self.surplus.min(self.warm_count)
    }
    /// Gives up to so many pages of the surplus back to the system.
    pub fn give_back(&mut self, pages: usize) {
        for _ in 0..pages.min(self.surplus) {
            let Some(page) = self.pop_warm() else {
                break;
            };
            self.surplus -= 1;
            // SAFETY: the page's memory holds nothing in use; MADV_DONTNEED on private anonymous memory gives zero pages at the next
            // touch. The page is in no list.
            unsafe {
                libc::madvise(memory_of(page).cast(), PAGE, libc::MADV_DONTNEED);
                self.push_cold(page);
            }
        }
        if self.warm.is_null() {
            self.surplus = 0;
        }
    }
}
