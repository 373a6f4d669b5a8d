import type { Messages } from './en'
import en from './en'

export default en as Messages
