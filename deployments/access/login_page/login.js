// First script of every page of the UIs: to the login page where this browser has no password that the server takes.
(() => {
  const leave = () => {
    const here = location.pathname + location.search + location.hash;
    sessionStorage.setItem('nirflow-next', /\/login\/?$/.test(location.pathname) ? '/' : here);
    location.replace('/nirflow/login');
  };
  const word = localStorage.getItem('prefect-password');
  if (!word) {
    leave();
    return;
  }
  fetch('/api/admin/version', { headers: { Authorization: `Basic ${word}` } }).then(answer => {
    if (answer.status === 401) {
      localStorage.removeItem('prefect-password');
      leave();
    }
  }).catch(() => {}); // a server that does not answer is the page's own to report
})();
