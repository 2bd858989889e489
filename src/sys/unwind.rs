//! Nobody goes up the stack of a release: a panic ends the process at once, and neither tables for unwinding nor names are
//! left in it (contrib/plain.ld). So what the standard library has for a backtrace and LLVM for an unwinding, which reads
//! them and was a thirtieth of the executable, finds these in place of the library that would be linked for it.

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`
const END: c_int = 5;

/// Calls nothing for no frame, by which the compiler sees that what it would call is not needed.
// SAFETY: the name and the signature are those of the ABI for exceptions (Itanium C++ ABI), and nothing else has them:
// the library of which they are is linked where one is missing, and would be refused then.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *const c_void) -> c_int {
    END
}

/// What is called in an unwinding, or for a frame, and so never. It is all that the standard library refers to: where the
/// two are not compiled as one, a name that is missing here would bring that library in again.
macro_rules! never {
    ($($name:ident)*) => { $(
        // SAFETY: as above.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )* };
}

never! {
    _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR
    _Unwind_SetIP
}
