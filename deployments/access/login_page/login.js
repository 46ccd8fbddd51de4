// First script of every page of the UIs: opens the login page if this browser has no password that the server accepts.
(() => {
  const leave = () => {
    const here = location.pathname + location.search + location.hash;
    sessionStorage.setItem('nirflow-next', /\/login\/?$/.test(location.pathname) ? '/' : here);
    location.replace('/nirflow/login');
  };
  const credential = localStorage.getItem('prefect-password');
  if (!credential) {
    leave();
    return;
  }
  fetch('/api/admin/version', { headers: { Authorization: `Basic ${credential}` } }).then(answer => {
    if (answer.status === 401) {
      localStorage.removeItem('prefect-password');
      leave();
    }
  }).catch(() => {}); // the page itself reports a server that does not respond
})();
