/* What bodies of reductions are made of: the arithmetic of one type, given its class. monoid_number.h and monoid_record.h
 * include it; monoid_end.h takes all of it back.
 *
 * Before it are defined T: the type; NAME(f): f with the type's suffix; and the class: WHOLE (with W, an unsigned type wide
 * enough that nothing is promoted to a signed one), FLOATING, TRUTH (a byte, 0 or 1) or COMPLEX (with its parts re and im).
 * It defines ADD, MULTIPLY and, where numbers have an order, HAS_ORDER, LESS and IS_NAN; the parts RE and IM as f64; and
 * TESSI_IF_…(text), which is the text if the column's word fits the class. */

#ifndef TESSI_MONOID
#define TESSI_MONOID static inline __attribute__((always_inline, unused))
#endif

#define TESSI_WITH(...) __VA_ARGS__
#define TESSI_WITHOUT(...)
#define TESSI_IF_ANY TESSI_WITH
#define TESSI_IF_WIDE TESSI_WITH
#define TESSI_IF_KEPT TESSI_WITH
#ifdef TRUTH
#define TESSI_IF_TRUTH TESSI_WITH
#else
#define TESSI_IF_TRUTH TESSI_WITHOUT
#endif
#ifdef COMPLEX
#define TESSI_IF_ORDERED TESSI_WITHOUT
#else
#define HAS_ORDER
#define TESSI_IF_ORDERED TESSI_WITH
#define LESS(x, y) ((x) < (y))
#endif

#if defined(COMPLEX)
#define RE(x) ((double)(x).re)
#define IM(x) ((double)(x).im)
#else
#define RE(x) ((double)(x))
#define IM(x) ((void)(x), 0.0)
#endif

#if defined(WHOLE) /* they wrap */
#define ADD(x, y) ((T)((W)(x) + (W)(y)))
#define MULTIPLY(x, y) ((T)((W)(x) * (W)(y)))
#define IS_NAN(x) (false)
#elif defined(FLOATING)
#define ADD(x, y) ((x) + (y))
#define MULTIPLY(x, y) ((x) * (y))
#define IS_NAN(x) ((x) != (x))
#elif defined(TRUTH) /* a sum is "or", as the elementwise one */
#define ADD(x, y) ((T)((x) | (y)))
#define MULTIPLY(x, y) ((T)((x) & (y)))
#define IS_NAN(x) (false)
#elif defined(COMPLEX)
#define ADD(x, y) ((T){(x).re + (y).re, (x).im + (y).im})
#define MULTIPLY(x, y) ((T){(x).re * (y).re - (x).im * (y).im, (x).re * (y).im + (x).im * (y).re})
#endif
