/** The one HTTP client of the desk. */

import { Http } from '../../shared/http'

export const api = new Http('/api/v1')
