/** Addresses of the desk. Every screen but the shell is a lazy chunk. */

import { createRouter, createWebHistory } from 'vue-router'
import type { Role } from '../shared/api'
import { useSession } from './stores/session'

declare module 'vue-router' {
  interface RouteMeta {
    open?: boolean
    role?: Role
    bare?: boolean
  }
}

export const router = createRouter({
  history: createWebHistory('/desk/'),
  routes: [
    { path: '/login', name: 'login', component: () => import('./views/LoginView.vue'), meta: { open: true, bare: true } },
    { path: '/', redirect: { name: 'inbox' } },
    { path: '/inbox/:id(\\d+)?', name: 'inbox', component: () => import('./views/InboxView.vue') },
    { path: '/callbacks', name: 'callbacks', component: () => import('./views/CallbacksView.vue') },
    { path: '/contacts', name: 'contacts', component: () => import('./views/ContactsView.vue') },
    { path: '/contacts/:id(\\d+)', name: 'contact', component: () => import('./views/ContactView.vue') },
    { path: '/wall', name: 'wall', component: () => import('./views/WallView.vue'), meta: { role: 'supervisor', bare: true } },
    { path: '/reports/:kind?', name: 'reports', component: () => import('./views/ReportsView.vue'), meta: { role: 'supervisor' } },
    { path: '/planning/:tab?', name: 'planning', component: () => import('./views/PlanningView.vue'), meta: { role: 'supervisor' } },
    { path: '/intake', name: 'intake', component: () => import('./views/IntakeView.vue'), meta: { role: 'supervisor' } },
    { path: '/admin/:tab?', name: 'admin', component: () => import('./views/AdminView.vue'), meta: { role: 'supervisor' } },
    { path: '/:rest(.*)*', name: 'lost', component: () => import('./views/LostView.vue') },
  ],
})

router.beforeEach(async (to) => {
  const session = useSession()
  if (!session.known) await session.restore()
  if (to.meta.open) return session.me && to.name === 'login' ? { name: 'inbox' } : true
  if (!session.me) return { name: 'login', query: { to: to.fullPath } }
  if (to.meta.role && !session.may(to.meta.role)) return { name: 'inbox' }
  return true
})
