//! What holds for every store: the same cases run against SQLite and against PostgreSQL.

mod arrays;
mod commits;
mod images;
mod older;
mod pages;
mod pauses;
mod priorities;
mod retention;
mod round_trip;
pub(crate) mod sample;
mod sites;

use crate::store::Store;

/// A store that a test can also look into by statements of its own.
pub(crate) trait TestStore: Store {
    /// Changes rows behind the store's back.
    fn change(&mut self, sql: &str);

    /// The one number that a query finds.
    fn number(&mut self, sql: &str) -> i64;
}

/// A store that was opened.
pub(crate) type Opened = Box<dyn TestStore>;

/// Where a test has its store; it is empty at first.
pub(crate) trait Place {
    /// Opens it; after it was closed, with what was left there.
    fn open(&self) -> Opened;
}

/// The cases: a test each against SQLite, and a list for PostgreSQL, whose server serves them all.
macro_rules! cases {
    ($($group:ident: $($case:ident),+;)*) => {
        /// Every case by its name.
        pub(crate) const CASES: &[(&str, fn(&dyn Place))] = &[
            $($((stringify!($case), $group::$case),)+)*
        ];

        mod on_sqlite {
            $($(
                #[test]
                fn $case() {
                    super::$group::$case(&crate::sqlite::tests::sample::Directory::new());
                }
            )+)*
        }
    };
}

cases! {
    arrays: an_array_comes_back_as_it_was_put_last, elements_are_found_by_index_and_counted,
        an_array_goes_with_its_last_element;
    commits: a_deleted_session_takes_its_events_and_members_with_it,
        a_refused_batch_leaves_nothing_and_an_empty_one_counts_nothing,
        of_what_is_put_twice_in_a_batch_the_last_stays, a_row_in_an_unknown_form_is_named;
    images: images_and_names_come_back, a_name_of_no_image_is_refused_with_its_batch;
    older: a_store_of_before_pages_of_what_ended_keeps_every_row;
    pages: pages_join_without_gap_or_double_even_where_times_are_equal, filters_hold_together,
        a_name_is_looked_up_within_its_owner_newest_first,
        a_session_is_of_the_past_once_it_has_ended, a_page_is_bounded_whatever_is_asked;
    pauses: a_pause_comes_back_with_what_nodes_told_of_it;
    priorities: a_priority_comes_back_and_is_the_usual_one_in_older_rows;
    retention: only_what_is_old_goes_and_only_so_much_per_call,
        a_retention_of_zero_rows_deletes_nothing;
    round_trip: a_row_of_before_arrays_and_attempts_is_read,
        every_session_comes_back_as_it_was_put,
        every_member_comes_back_also_those_of_former_attempts,
        what_ended_long_ago_is_not_loaded_unless_it_is_being_removed;
    sites: orders_of_nodes_come_back, site_nodes_and_keys_come_back,
        events_come_back_after_a_number;
}
