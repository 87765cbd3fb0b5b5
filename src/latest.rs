//! A value of which everybody always sees the latest state, and can wait for the next.
//!
//! It is tokio's watch channel, but whoever waits is woken in the order in which he began to wait. tokio wakes them in a random
//! order, so that a run of the whole node could not be repeated from its seed. It has no queue: states in between are not seen.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// The sender is gone: the value will not change any more.
pub use tokio::sync::watch::error::RecvError as Gone;

/// Changes the value. Clones change the same one.
pub struct Sender<T> {
    // Dropped before the bell, which tells that it was.
    values: watch::Sender<T>,
    bell: Bell,
}

/// Sees the value. A clone has seen what the original has.
pub struct Receiver<T> {
    values: watch::Receiver<T>,
    changed: Arc<Notify>,
}

/// Rings when it is dropped, too.
#[derive(Clone)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// Returns both ends of a value, which the receiver has seen.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let (values, receiver) = watch::channel(value);
    let changed = Arc::new(Notify::new());
    (Sender { values, bell: Bell(changed.clone()) }, Receiver { values: receiver, changed })
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { values: self.values.clone(), bell: self.bell.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { values: self.values.clone(), changed: self.changed.clone() }
    }
}

impl<T> Sender<T> {
    /// Sets the value; refused, with the value, when there is no receiver.
    pub fn send(&self, value: T) -> Result<(), T> {
        self.values.send(value).map_err(|refused| refused.0)?;
        self.bell.0.notify_waiters();
        Ok(())
    }

    /// Sets the value, whether or not there is a receiver.
    pub fn set(&self, value: T) {
        self.values.send_replace(value);
        self.bell.0.notify_waiters();
    }

    /// Lets a function change the value; it returns whether it did, which is returned.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = self.values.send_if_modified(modify);
        if modified {
            self.bell.0.notify_waiters();
        }
        modified
    }

    /// Returns the value. It cannot change while it is held.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.values.borrow()
    }

    /// Returns a receiver, which has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { values: self.values.subscribe(), changed: self.bell.0.clone() }
    }
}

impl<T> Receiver<T> {
    /// Returns the value. It cannot change while it is held.
    pub fn borrow(&self) -> watch::Ref<'_, T> {
        self.values.borrow()
    }

    /// Returns the value and marks it as seen.
    pub fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        self.values.borrow_and_update()
    }

    /// Waits for a value that was not seen yet and marks it as seen. Cancelling loses nothing.
    pub async fn changed(&mut self) -> Result<(), Gone> {
        loop {
            // Made before the look, so that whatever comes after it is heard.
            let changed = self.changed.notified();
            if !matches!(self.values.has_changed(), Ok(false)) {
                // Does not wait: there is something to see, or there will never be.
                return self.values.changed().await;
            }
            changed.await;
        }
    }

    /// Waits until the value is such, and marks it as seen. Cancelling loses nothing.
    pub async fn wait_for(&mut self, is_such: impl Fn(&T) -> bool) -> Result<(), Gone> {
        while !is_such(&self.values.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::channel;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..50)
            .map(|at| {
                let (mut receiver, woken) = (receiver.clone(), woken.clone());
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().push(at);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.set(1);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_last_value_is_seen_and_then_that_nobody_sends_any_more() {
        let (sender, mut receiver) = channel(0);
        let other = sender.clone();
        let mut waiting = receiver.clone();
        let waiter = tokio::spawn(async move { waiting.wait_for(|value| *value == 9).await });
        tokio::task::yield_now().await;
        other.set(1);
        drop(other);
        drop(sender);
        assert!(receiver.changed().await.is_ok());
        assert_eq!(*receiver.borrow(), 1);
        assert!(receiver.changed().await.is_err());
        assert!(waiter.await.unwrap().is_err(), "whoever waited is woken");
    }
}
